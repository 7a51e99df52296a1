"""Whether an episode's streams are synchronous: rows, timestamps, values, and every camera's frames.

reports = [report for job in episode_jobs(dataset) for report in examine_episodes(job, wanted)]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.config.video import EpisodeFilter, VideoLimits
from components.curate.samples import Reason
from components.curate.video.lerobot import BROKEN, Episode, Feature, LeRobot, Part, read_lerobot
from components.curate.video.probe import Stream, check_seeks, read_stream, seek_points

INDEX = ("frame_index", "episode_index", "index", "timestamp", "task_index")


@dataclass(frozen=True)
class EpisodeJob:
    """Episodes that lie in one file of data, by their place in the metadata."""

    root: str
    places: tuple[int, ...]


@dataclass(frozen=True)
class EpisodeReport:
    """What was found; every value is one that JSON knows."""

    place: int
    """In the metadata."""
    index: int
    code: str = ""
    """Why the episode is out; empty: it is sound."""
    evidence: str = ""
    num_frames: int = 0


def episode_jobs(dataset: LeRobot) -> list[EpisodeJob]:
    """All episodes, those of one file together: a file is then read once."""
    by_file: dict[str, list[int]] = {}
    for place, episode in enumerate(dataset.episodes):
        by_file.setdefault(episode.data_path, []).append(place)
    return [EpisodeJob(str(dataset.root), tuple(places)) for places in by_file.values()]


def examine_episodes(job: EpisodeJob, wanted: EpisodeFilter) -> list[EpisodeReport]:
    """Judge the episodes of one file; a bad one ends with a code, never with an exception.

    Codes: of the metadata `bad_metadata`, `duplicate_episode`, `episode_bounds`, `no_instruction`; those of
    `check_rows` and `check_camera`.
    """
    dataset = _dataset(job.root)
    episodes = [(place, dataset.episodes[place]) for place in job.places]
    table = read_rows(dataset, episodes[0][1].data_path)
    return [_report(place, _judge(episode, dataset, table, wanted), episode) for place, episode in episodes]


@lru_cache(maxsize=2)
def _dataset(root: str) -> LeRobot:
    return read_lerobot(Path(root))


def _report(place: int, reason: Reason | None, episode: Episode) -> EpisodeReport:
    if reason is None:
        return EpisodeReport(place, episode.index, num_frames=episode.length)
    return EpisodeReport(place, episode.index, reason.code, reason.evidence[:200], episode.length)


def _judge(
    episode: Episode, dataset: LeRobot, table: pa.Table | Reason, wanted: EpisodeFilter
) -> Reason | None:
    if episode.problem is not None:
        return episode.problem
    if isinstance(table, Reason):
        return table
    try:
        rows = rows_of(table, episode)
        reason = check_rows(rows, episode, dataset, wanted)
        if reason is not None:
            return reason
        times = rows["timestamp"].to_numpy().astype(np.float64)
    except BROKEN as error:
        return Reason("bad_rows", evidence=f"{type(error).__name__}: {error}")
    for camera in dataset.cameras:
        reason = check_camera(dataset.root, camera, episode.videos[camera.name], times, dataset.fps, wanted)
        if reason is not None:
            return reason
    return None


def read_rows(dataset: LeRobot, path: str) -> pa.Table | Reason:
    """Numbers and indices of a file of data, without embedded pictures.

    Reason codes: `missing_data`, `bad_rows`, `missing_column`.
    """
    if not path or not (dataset.root / path).is_file():
        return Reason("missing_data", evidence=path)
    try:
        schema = pq.read_schema(dataset.root / path)
        wanted = {*INDEX, *(feature.name for feature in dataset.features if feature.is_number)}
        missing = sorted(
            {"frame_index", "timestamp", "episode_index"} | (wanted - set(INDEX)) - set(schema.names)
        )
        missing = [name for name in missing if name not in schema.names]
        if missing:
            return Reason("missing_column", evidence=", ".join(missing)[:200])
        return pq.read_table(dataset.root / path, columns=[name for name in schema.names if name in wanted])
    except BROKEN as error:
        return Reason("bad_rows", evidence=f"{type(error).__name__}: {error}"[:200])


def rows_of(table: pa.Table, episode: Episode) -> pa.Table:
    """The rows of one episode, in the order of the file."""
    return table.filter(pc.equal(table["episode_index"], episode.index))


def check_rows(rows: pa.Table, episode: Episode, dataset: LeRobot, wanted: EpisodeFilter) -> Reason | None:
    """Whether the numbers of an episode are complete, in order, at their times and finite.

    Reason codes: `length_mismatch`, `too_short`, `frame_order`, `episode_bounds`, `timestamp_order`,
    `timestamp_off`, `unknown_task`, `no_instruction`, `bad_shape`, `bad_value`.
    """
    number = len(rows)
    if number != episode.length:
        return Reason("length_mismatch", evidence=f"{number} rows, {episode.length} declared")
    if number < wanted.min_frames:
        return Reason("too_short", evidence=f"{number} frames")
    frames = rows["frame_index"].to_numpy()
    if not np.array_equal(frames, np.arange(number)):
        place = int(np.argmax(frames != np.arange(number)))
        return Reason("frame_order", evidence=f"row {place} is frame {frames[place]}")
    return (
        _check_bounds(rows, episode)
        or _check_times(rows["timestamp"].to_numpy().astype(np.float64), dataset.fps, wanted)
        or _check_task(rows, episode, dataset, wanted)
        or _check_values(rows, dataset.features)
    )


def _check_bounds(rows: pa.Table, episode: Episode) -> Reason | None:
    if "index" not in rows.column_names:
        return None
    numbers = rows["index"].to_numpy()
    first = episode.first_row if episode.first_row >= 0 else int(numbers[0])
    if np.array_equal(numbers, np.arange(first, first + len(rows))):
        return None
    return Reason(
        "episode_bounds", evidence=f"frames {numbers[0]} to {numbers[-1]} of the dataset, not from {first} on"
    )


def _check_times(
    times: np.ndarray[Any, np.dtype[np.float64]], fps: float, wanted: EpisodeFilter
) -> Reason | None:
    if not np.isfinite(times).all():
        return Reason("bad_value", evidence=f"timestamp of frame {int(np.argmax(~np.isfinite(times)))}")
    steps = np.diff(times)
    if (steps <= 0).any():
        place = int(np.argmax(steps <= 0))
        return Reason("timestamp_order", evidence=f"{times[place]:.4f} s, then {times[place + 1]:.4f} s")
    off = np.abs(times - np.arange(len(times)) / fps)
    # The column is float32: at 1000 s its steps are 6e-5 s.
    allowed = wanted.tolerance_s + times * 2.0**-23
    if (off > allowed).any():
        place = int(np.argmax(off > allowed))
        return Reason(
            "timestamp_off", evidence=f"frame {place} at {times[place]:.4f} s, {off[place]:.4f} s off"
        )
    return None


def _check_task(rows: pa.Table, episode: Episode, dataset: LeRobot, wanted: EpisodeFilter) -> Reason | None:
    numbers = set(rows["task_index"].to_pylist()) if "task_index" in rows.column_names else set()
    unknown = sorted(str(number) for number in numbers - set(dataset.tasks))
    if unknown:
        return Reason("unknown_task", evidence=f"task {unknown[0]}")
    texts = [dataset.tasks[number] for number in numbers] or list(episode.tasks)
    if wanted.need_instruction and not any(text.strip() for text in texts):
        return Reason("no_instruction")
    return None


def _check_values(rows: pa.Table, features: Sequence[Feature]) -> Reason | None:
    for feature in features:
        if not feature.is_number or feature.name in INDEX:
            continue
        values = matrix(rows[feature.name])
        if values is None or values.shape[1] != int(np.prod(feature.shape)):
            found = "rows of different length" if values is None else f"{values.shape[1]} values"
            return Reason("bad_shape", evidence=f"{feature.name}: {found}, {list(feature.shape)} declared")
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            frame, column = (int(place) for place in bad[0])
            return Reason(
                "bad_value", evidence=f"{feature.name}[{column}] of frame {frame} is {values[frame, column]}"
            )
    return None


def matrix(column: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    """A column of numbers or of (nested) lists of them as frames × values; None where rows differ in length.

    A missing value is NaN.
    """
    array = column.combine_chunks()
    number = len(array)
    while pa.types.is_list(array.type) or pa.types.is_large_list(array.type) or _is_fixed(array.type):
        lengths = pc.list_value_length(array).fill_null(-1)
        if len(array) and (pc.min(lengths).as_py() < 0 or pc.min(lengths) != pc.max(lengths)):
            return None
        array = array.flatten()
    values = array.cast(pa.float64()).to_numpy(zero_copy_only=False)
    if number == 0 or len(values) % number:
        return None
    flat: np.ndarray[Any, np.dtype[np.float64]] = values.reshape(number, -1)
    return flat


def _is_fixed(kind: pa.DataType) -> bool:
    return bool(pa.types.is_fixed_size_list(kind))


def check_camera(
    root: Path,
    camera: Feature,
    part: Part,
    times: np.ndarray[Any, np.dtype[np.float64]],
    fps: float,
    wanted: EpisodeFilter,
) -> Reason | None:
    """Whether a camera has one frame for every row, at the row's time, and they decode.

    Reason codes: `missing_video`, `wrong_size`, `stream_length`, `out_of_sync`, and those of
    `probe.read_stream` and `check_seeks`.

    Args:
        times: Timestamps of the rows, in seconds from the beginning of the episode.
    """
    path = root / part.path
    if not path.is_file():
        return Reason("missing_video", evidence=part.path)
    stream = _stream(path, wanted.limits)
    if isinstance(stream, Reason):
        return Reason(stream.code, evidence=f"{camera.name}: {stream.evidence}")
    size = {stream.probe.width, stream.probe.height}
    if camera.shape and not size <= set(camera.shape):
        found = f"{stream.probe.width}x{stream.probe.height}"
        return Reason("wrong_size", evidence=f"{camera.name}: {found}, {list(camera.shape)} declared")
    half = 0.5 / fps
    all_times = np.asarray(stream.times)
    own = all_times
    if part.end_s:
        own = all_times[(all_times >= part.start_s - half) & (all_times < part.end_s - half)]
    if len(own) != len(times):
        return Reason("stream_length", evidence=f"{camera.name}: {len(own)} frames for {len(times)} rows")
    off = np.abs(own - part.start_s - times)
    if (off > wanted.tolerance_s + times * 2.0**-23).any():
        place = int(np.argmax(off))
        return Reason("out_of_sync", evidence=f"{camera.name}: frame {place} is {off[place]:.4f} s off")
    if not wanted.seeks:
        return None
    points = seek_points(own.tolist(), float(own[-1]) + 1.0, wanted.seeks)
    with path.open("rb") as file:
        reason = check_seeks(file, points, wanted.limits)
    return Reason(reason.code, evidence=f"{camera.name}: {reason.evidence}") if reason else None


@lru_cache(maxsize=16)
def _stream(path: Path, limits: VideoLimits) -> Stream | Reason:
    """Listed once for all episodes that a file holds."""
    with path.open("rb") as file:
        return read_stream(file, limits)


def episode_verdicts(places: Mapping[int, int], reports: Sequence[EpisodeReport]) -> dict[int, Reason]:
    """Position of a draft → why its episode is out.

    Args:
        places: Position of a draft → place of its episode in the metadata.
    """
    known = {report.place: report for report in reports}
    return {
        position: Reason(known[place].code, evidence=known[place].evidence)
        for position, place in places.items()
        if known[place].code
    }
