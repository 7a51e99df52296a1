"""Robot episodes in LeRobot's layout, versions 2.0, 2.1 and 3.0: what is declared, and where it lies.

2.x: `meta/episodes.jsonl` and `meta/tasks.jsonl`; a parquet file and a video for each episode
3.0: `meta/episodes/*/*.parquet` and `meta/tasks.parquet`; files that hold many episodes one after the other

Paths are made of patterns in `meta/info.json`, which a stranger wrote: only the known fields are filled in,
and what leads out of the dataset is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.config.tars import TarLimits
from components.curate.samples import Reason
from components.curate.tars import parse_json
from components.errors import SourceError

INFO = "meta/info.json"
MAX_INFO = 8 << 20
FIELD = re.compile(r"\{(\w+)(?::0?(\d)d)?\}")
DATA_2 = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
VIDEO_2 = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
DATA_3 = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_3 = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
NUMBERS = frozenset({"float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"})
BROKEN = (OSError, ValueError, TypeError, KeyError, AttributeError, pa.ArrowException)
"""What reading and interpreting metadata of strangers raises."""


@dataclass(frozen=True)
class Feature:
    """A column of the data, or a camera."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...]
    """Of its values; empty where the dataset has none, or not as many as values."""

    @property
    def is_number(self) -> bool:
        return self.dtype in NUMBERS


@dataclass(frozen=True)
class Part:
    """The stretch of a video that belongs to an episode."""

    path: str
    start_s: float
    end_s: float
    """0 where the whole file is the episode's."""


@dataclass(frozen=True)
class Episode:
    """An episode as the metadata declare it."""

    index: int
    length: int
    tasks: tuple[str, ...]
    data_path: str
    """Relative to the dataset."""
    first_row: int
    """Number of its first frame in the whole dataset; negative where it is not declared."""
    videos: Mapping[str, Part]
    """By camera."""
    problem: Reason | None = None
    """Why the metadata cannot be used."""


@dataclass(frozen=True)
class LeRobot:
    """A dataset by its metadata."""

    root: Path
    version: str
    fps: float
    features: tuple[Feature, ...]
    tasks: Mapping[int, str]
    splits: Mapping[str, range]
    """The source's own: name → episodes."""
    episodes: tuple[Episode, ...]

    @property
    def cameras(self) -> tuple[Feature, ...]:
        return tuple(each for each in self.features if each.dtype == "video")

    def feature(self, name: str) -> Feature | None:
        return next((each for each in self.features if each.name == name), None)


def read_lerobot(root: Path) -> LeRobot:
    """Metadata alone; nothing of the data is read.

    Raises:
        SourceError: this is no such dataset, or its metadata as a whole cannot be used.
    """
    info = _info(root)
    try:
        version = str(info.get("codebase_version", ""))
        features = tuple(_feature(name, value) for name, value in info["features"].items())
        fps = float(info["fps"])
        if not 0 < fps < 10_000:
            raise ValueError(f"a rate of {fps}")
        cameras = [feature.name for feature in features if feature.dtype == "video"]
        if version.startswith("v3"):
            tasks, rows = _tasks_3(root), _rows_3(root)
            episodes = [_episode_3(row, info, cameras) for row in rows]
        elif version.startswith("v2"):
            tasks, rows = _tasks_2(root), _lines(root / "meta/episodes.jsonl")
            episodes = [_episode_2(row, info, cameras) for row in rows]
        else:
            raise ValueError(f"version '{version}', known are v2.0, v2.1 and v3.0")
        splits = {str(name): _range(value) for name, value in info.get("splits", {}).items()}
    except BROKEN as error:
        raise SourceError(
            f"the metadata of the episodes cannot be used: {error}",
            where=str(root / "meta"),
            fix="fetch the dataset again, or convert it with LeRobot's own tools",
        ) from error
    return LeRobot(root, version, fps, features, tasks, splits, _unique(episodes))


def orphan_files(dataset: LeRobot) -> list[str]:
    """Files of data and videos that no episode names, relative to the dataset."""
    named = {episode.data_path for episode in dataset.episodes}
    named |= {part.path for episode in dataset.episodes for part in episode.videos.values()}
    found = [*dataset.root.glob("data/**/*.parquet"), *dataset.root.glob("videos/**/*.mp4")]
    return sorted({path.relative_to(dataset.root).as_posix() for path in found} - named)


def _info(root: Path) -> dict[str, Any]:
    path = root / INFO
    if not path.is_file():
        raise SourceError(
            "no dataset in LeRobot's layout", where=str(path), fix="name the folder that holds `meta`"
        )
    info = parse_json(path.read_bytes(), TarLimits(max_json_bytes=MAX_INFO))
    if isinstance(info, Reason):
        raise SourceError(f"{info.code}: {info.evidence}", where=str(path), fix="fetch the dataset again")
    return info


def _feature(name: str, value: Mapping[str, Any]) -> Feature:
    shape = tuple(int(side) for side in value.get("shape", ()))
    names = tuple(_flat(value.get("names")))
    return Feature(
        name, str(value["dtype"]), shape, names if len(shape) == 1 and len(names) == shape[0] else ()
    )


def _flat(names: Any) -> list[str]:
    """Names come as a list, as a list in a list, and as `{"motors": [...]}`."""
    if isinstance(names, dict):
        return [name for value in names.values() for name in _flat(value)]
    if isinstance(names, list):
        return [name for value in names for name in _flat(value)]
    return [] if names is None else [str(names)]


def _lines(path: Path) -> list[dict[str, Any]]:
    """A row for every line; a line that is no object is an empty row, for its episode to be named."""
    rows = []
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.strip():
                row = parse_json(line.encode(), TarLimits(max_json_bytes=MAX_INFO))
                rows.append({} if isinstance(row, Reason) else row)
    return rows


def _tasks_2(root: Path) -> dict[int, str]:
    rows = _lines(root / "meta/tasks.jsonl")
    return {int(row["task_index"]): str(row["task"]) for row in rows if "task_index" in row and "task" in row}


def _tasks_3(root: Path) -> dict[int, str]:
    """The text is the index of the frame that pandas wrote; some writers call it `task`."""
    table = pq.read_table(root / "meta/tasks.parquet")
    text = next(name for name in ("task", "__index_level_0__") if name in table.column_names)
    pairs = zip(table["task_index"].to_pylist(), table[text].to_pylist(), strict=True)
    return {int(number): str(task) for number, task in pairs}


def _rows_3(root: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for path in sorted((root / "meta/episodes").glob("*/*.parquet")):
        columns = [name for name in pq.read_schema(path).names if not name.startswith("stats/")]
        rows += pq.read_table(path, columns=columns).to_pylist()
    return rows


def _episode_2(row: Mapping[str, Any], info: Mapping[str, Any], cameras: Sequence[str]) -> Episode:
    try:
        index = int(row["episode_index"])
        fields = {"episode_index": index, "episode_chunk": index // int(info.get("chunks_size", 1000))}
        videos = {
            camera: Part(_fill(info.get("video_path") or VIDEO_2, fields | {"video_key": camera}), 0.0, 0.0)
            for camera in cameras
        }
        path = _fill(info.get("data_path") or DATA_2, fields)
        return Episode(index, int(row["length"]), _task_texts(row), path, -1, videos)
    except BROKEN as error:
        return _bad(row, error)


def _episode_3(row: Mapping[str, Any], info: Mapping[str, Any], cameras: Sequence[str]) -> Episode:
    try:
        videos = {}
        for camera in cameras:
            where: dict[str, int | str] = {
                "video_key": camera,
                "chunk_index": int(row[f"videos/{camera}/chunk_index"]),
                "file_index": int(row[f"videos/{camera}/file_index"]),
            }
            start, end = (float(row[f"videos/{camera}/{side}_timestamp"]) for side in ("from", "to"))
            videos[camera] = Part(_fill(info.get("video_path") or VIDEO_3, where), start, end)
        fields = {name: int(row[f"data/{name}"]) for name in ("chunk_index", "file_index")}
        path = _fill(info.get("data_path") or DATA_3, fields)
        first, last = int(row["dataset_from_index"]), int(row["dataset_to_index"])
        index, length = int(row["episode_index"]), int(row["length"])
        problem = Reason("episode_bounds", evidence=f"rows {first} to {last} for {length} frames")
        return Episode(
            index, length, _task_texts(row), path, first, videos, problem if last - first != length else None
        )
    except BROKEN as error:
        return _bad(row, error)


def _task_texts(row: Mapping[str, Any]) -> tuple[str, ...]:
    tasks = row.get("tasks") or ()
    return tuple(str(task) for task in ([tasks] if isinstance(tasks, str) else tasks))


def _bad(row: Mapping[str, Any], error: Exception) -> Episode:
    number = row.get("episode_index")
    reason = Reason("bad_metadata", evidence=f"{type(error).__name__}: {error}"[:200])
    return Episode(number if isinstance(number, int) else -1, 0, (), "", -1, {}, reason)


def _fill(pattern: str, fields: Mapping[str, int | str]) -> str:
    """A path from a pattern; unlike `str.format`, it reaches no attribute, and no path leads out.

    Symbolic links are not looked at: the hub's cache is made of them.
    """

    def value(match: re.Match[str]) -> str:
        name, digits = match.groups()
        return f"{fields[name]:0{digits}d}" if digits else str(fields[name])

    path = FIELD.sub(value, pattern)
    parts = PurePosixPath(path)
    if "{" in path or parts.is_absolute() or ".." in parts.parts:
        raise ValueError(f"the path '{path[:80]}' leads out of the dataset")
    return path


def _range(value: Any) -> range:
    start, _, stop = str(value).partition(":")
    return range(int(start), int(stop))


def _unique(episodes: Sequence[Episode]) -> tuple[Episode, ...]:
    """In order; a number that comes twice is a problem of the later one."""
    seen: set[int] = set()
    judged = []
    for episode in episodes:
        if episode.index in seen and episode.problem is None:
            problem = Reason("duplicate_episode", evidence=f"episode {episode.index} comes twice")
            episode = Episode(episode.index, episode.length, (), "", -1, {}, problem)
        seen.add(episode.index)
        judged.append(episode)
    return tuple(judged)
