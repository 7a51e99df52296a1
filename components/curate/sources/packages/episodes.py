"""Episodes of robots (LeRobot's layout, in a folder): a frame, the instruction, and the action as text.

The answer of a sample is the action that the robot took at that frame, as

    values   `shoulder -0.120, gripper 1.000`: names as the dataset has them (else a0, a1, …), three decimals
    bins     `121 255`: each value in one of 256 equal bins between the 1st and the 99th percentile of the
             training episodes, as RT-2 and OpenVLA write actions

Whole episodes are held out as the test group `unseen_episodes`, unless the source has splits itself.

Options:
    camera: Name of the camera (`observation.images.top`); empty: the first.
    frames_per_episode: Spread evenly.
    actions: `values` or `bins`.
    state: Tell the robot's state in the question too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from components.config import CurateConfig, SourceConfig
from components.config.video import VideoLimits
from components.curate.samples import Draft, Reason, Split, Turn
from components.curate.sources.planning import option, split_of
from components.curate.sources.reader import Reader, Share
from components.curate.video.episodes import matrix, read_rows, rows_of
from components.curate.video.files import open_clip
from components.curate.video.frames import decode_frame
from components.curate.video.lerobot import BROKEN, Episode, Feature, LeRobot, orphan_files, read_lerobot
from components.errors import ConfigError

OPTIONS: Mapping[str, type] = {
    "camera": str,
    "frames_per_episode": int,
    "actions": str,
    "state": bool,
    "unseen_episodes": Share,
    "validation": Share,
}
ACTION, STATE = "action", "observation.state"
NUM_BINS = 256
LIMITS = VideoLimits()
Floats = np.ndarray[Any, np.dtype[np.float64]]
NAMES: Mapping[str, Split] = {
    "train": "train",
    "val": "validation",
    "validation": "validation",
    "test": "test",
}


@dataclass(frozen=True)
class _Rows:
    """What is needed of one episode's rows."""

    times: Floats
    actions: Floats
    states: Floats | None
    tasks: tuple[int, ...]


def plan(archives: Mapping[str, Path], source: SourceConfig, config: CurateConfig) -> list[Draft]:
    """Frames of every episode in the metadata's order; an episode whose rows cannot be used is one failed
    draft. Reads rows, and no video.

    Raises:
        ConfigError: the camera or the way to write actions does not exist, or there is no action.
        SourceError: this is no dataset in LeRobot's layout.
    """
    dataset = read_lerobot(archives["data"])
    camera = _camera(dataset, option(source, "camera", ""), source)
    how = option(source, "actions", "values")
    feature = dataset.feature(ACTION)
    if feature is None or how not in ("values", "bins"):
        raise ConfigError(
            "the dataset has no actions" if feature is None else f"unknown way to write actions: {how!r}",
            where=f"curate.sources, {source.locator}",
            fix="take another dataset" if feature is None else "actions = 'values' or 'bins'",
        )
    rows = _read_all(dataset)
    splits = [_split(episode, dataset, source, config) for episode in dataset.episodes]
    edges = _edges([each for each, (split, _) in zip(rows, splits, strict=True) if split == "train"])
    drafts: list[Draft] = []
    for place, (episode, own) in enumerate(zip(dataset.episodes, rows, strict=True)):
        split, group = splits[place]
        name = f"episode_{episode.index:06d}"
        if isinstance(own, Reason):
            failed = {"failed": own.code, "evidence": own.evidence, "episode": place}
            drafts.append(Draft(f"{name}~{place}", split, group, (), failed))
            continue
        part = episode.videos[camera.name]
        for frame in _spread(len(own.times), option(source, "frames_per_episode", 8)):
            at_s = part.start_s + float(own.times[frame])
            drafts.append(
                Draft(
                    original_id=f"{name}/{frame:06d}",
                    split=split,
                    group=group,
                    turns=(_turn(frame, own, episode, dataset, edges if how == "bins" else None, source),),
                    payload={"video": str(dataset.root / part.path), "at_s": at_s, "episode": place},
                    facts={
                        "clip": part.path,
                        "timestamp_s": f"{own.times[frame]:.4f}",
                        "instruction": _instruction(own.tasks[frame], episode, dataset),
                        "action": _values(own.actions[frame], feature),
                    },
                )
            )
    orphans = orphan_files(dataset)
    drafts += [
        Draft(path, "train", "", (), {"failed": "orphan_file", "evidence": "no episode names it"})
        for path in orphans
    ]
    return drafts


def render(payload: dict[str, Any], size: int) -> Image.Image:
    """The camera's frame, its longer side at most `size` pixels."""
    with open_clip(Path(payload["video"])) as file:
        # A frame's own time may be rounded up: half a millisecond earlier it is still the next one.
        return decode_frame(file, max(float(payload["at_s"]) - 0.0005, 0.0), size, LIMITS)


def places_of(drafts: Sequence[Draft]) -> dict[int, int]:
    """Position of a draft → place of its episode in the metadata, for `episode_verdicts`."""
    return {
        position: int(draft.payload["episode"])
        for position, draft in enumerate(drafts)
        if "video" in draft.payload
    }


def _camera(dataset: LeRobot, wanted: str, source: SourceConfig) -> Feature:
    found = [each for each in dataset.cameras if wanted in ("", each.name)]
    if not found:
        raise ConfigError(
            f"no camera '{wanted}'" if wanted else "the dataset has no video",
            where=f"curate.sources, {source.locator}",
            fix=f"cameras: {', '.join(each.name for each in dataset.cameras) or 'none'}",
        )
    return found[0]


def _read_all(dataset: LeRobot) -> list[_Rows | Reason]:
    """The rows of every episode; each file of data is read once, one at a time."""
    rows: dict[int, _Rows | Reason] = {}
    by_file: dict[str, list[int]] = {}
    for place, episode in enumerate(dataset.episodes):
        by_file.setdefault(episode.data_path, []).append(place)
    for path, places in by_file.items():
        table = read_rows(dataset, path)
        for place in places:
            rows[place] = _rows(table, dataset.episodes[place])
    return [rows[place] for place in range(len(dataset.episodes))]


def _rows(table: pa.Table | Reason, episode: Episode) -> _Rows | Reason:
    if episode.problem is not None or isinstance(table, Reason):
        assert isinstance(table, Reason) or episode.problem is not None
        return episode.problem or table
    try:
        own = rows_of(table, episode)
        actions = matrix(own[ACTION])
        states = matrix(own[STATE]) if STATE in own.column_names else None
        times = own["timestamp"].to_numpy().astype(np.float64)
        tasks = own["task_index"].to_pylist() if "task_index" in own.column_names else [-1] * len(own)
    except BROKEN as error:
        return Reason("bad_rows", evidence=f"{type(error).__name__}: {error}"[:200])
    if actions is None or not len(times):
        return Reason("bad_shape" if len(times) else "length_mismatch", evidence=f"{len(times)} rows")
    return _Rows(times, actions, states, tuple(tasks))


def _split(
    episode: Episode, dataset: LeRobot, source: SourceConfig, config: CurateConfig
) -> tuple[Split, str]:
    named = {name: NAMES.get(name) for name, episodes in dataset.splits.items() if episode.index in episodes}
    own = next((split for split in named.values() if split), None)
    if len(dataset.splits) > 1 and own:
        return own, "official_test" if own == "test" else ""
    split = split_of(
        config.seed,
        "episode",
        str(episode.index),
        unseen=option(source, "unseen_episodes", 0.1),
        validation=option(source, "validation", 0.05),
    )
    return split, "unseen_episodes" if split == "test" else ""


def _spread(length: int, number: int) -> Iterator[int]:
    """Frames in the middle of `number` equal parts."""
    number = min(number, length)
    yield from (int((part + 0.5) * length / number) for part in range(number))


def _edges(rows: Sequence[_Rows | Reason]) -> tuple[Floats, Floats]:
    """1st and 99th percentile of every value of the actions."""
    actions = [each.actions for each in rows if not isinstance(each, Reason)]
    width = max((each.shape[1] for each in actions), default=0)
    whole = [each for each in actions if each.shape[1] == width]
    if not whole:
        return np.zeros(width), np.ones(width)
    low, high = np.nanpercentile(np.concatenate(whole), (1, 99), axis=0)
    return low, high


def _turn(
    frame: int,
    rows: _Rows,
    episode: Episode,
    dataset: LeRobot,
    edges: tuple[Floats, Floats] | None,
    source: SourceConfig,
) -> Turn:
    action, state = dataset.feature(ACTION), dataset.feature(STATE)
    assert action is not None, "looked up before"
    question = f"The robot is told: {_instruction(rows.tasks[frame], episode, dataset)}"
    if option(source, "state", False) and rows.states is not None and state is not None:
        question += f"\nIts state is {_values(rows.states[frame], state)}."
    answer = _bins(rows.actions[frame], *edges) if edges else _values(rows.actions[frame], action)
    return Turn(f"{question}\nWhat action does it take now?", answer)


def _instruction(task: int, episode: Episode, dataset: LeRobot) -> str:
    return " ".join((dataset.tasks.get(task) or next(iter(episode.tasks), "")).split())


def _values(values: Floats, feature: Feature) -> str:
    names = feature.names or tuple(
        f"{feature.name.rpartition('.')[2][:1]}{place}" for place in range(len(values))
    )
    return ", ".join(f"{name} {value:.3f}" for name, value in zip(names, values, strict=False))


def _bins(values: Floats, low: Floats, high: Floats) -> str:
    if len(values) != len(low):
        return ""
    width = np.where(high > low, high - low, 1.0)
    places = np.clip(np.nan_to_num((values - low) / width) * NUM_BINS, 0, NUM_BINS - 1)
    return " ".join(str(int(place)) for place in places)


READER = Reader(plan, render=render, options=OPTIONS)
