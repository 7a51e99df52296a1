"""Writes small datasets in LeRobot's layout, versions 2.1 and 3.0, whose every part a test may break."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tiny_clips import FPS, make_clip

from components.curate.video.ffmpeg import ffmpeg

TOP, WRIST = "observation.images.top", "observation.images.wrist"
LENGTHS = (12, 15, 10)
TASKS = ("Push the block to the left.", "Lift the block.")


@dataclass
class Made:
    """The parts of a dataset before they are written."""

    lengths: tuple[int, ...] = LENGTHS
    info: dict[str, Any] = field(default_factory=dict)
    """Fields of `info.json` that are to be otherwise."""
    tasks: tuple[str, ...] = TASKS
    rows: list[pd.DataFrame] = field(default_factory=list)
    """Of each episode."""
    episodes: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        first = 0
        for index, length in enumerate(self.lengths):
            self.rows.append(_rows(index, length, first))
            task = self.tasks[index % len(self.tasks)]
            self.episodes.append({"episode_index": index, "tasks": [task], "length": length})
            first += length


def _rows(index: int, length: int, first: int) -> pd.DataFrame:
    numbers = np.arange(length)
    steps = numbers / length
    return pd.DataFrame(
        {
            "observation.state": [np.array([step, -step], np.float32) for step in steps],
            "action": [np.array([step, index, 1], np.float32) for step in steps],
            "timestamp": (numbers / FPS).astype(np.float32),
            "frame_index": numbers,
            "episode_index": np.full(length, index),
            "index": numbers + first,
            "task_index": np.full(length, index % 2),
        }
    )


def _info(made: Made, version: str) -> dict[str, Any]:
    camera = {"dtype": "video", "shape": [48, 64, 3], "names": ["height", "width", "channels"]}
    number = {"dtype": "int64", "shape": [1], "names": None}
    return {
        "codebase_version": version,
        "fps": FPS,
        "splits": {"train": f"0:{len(made.lengths)}"},
        "features": {
            TOP: camera,
            WRIST: camera,
            "observation.state": {"dtype": "float32", "shape": [2], "names": {"motors": ["x", "y"]}},
            "action": {"dtype": "float32", "shape": [3], "names": [["x", "y", "grip"]]},
            "timestamp": {"dtype": "float32", "shape": [1], "names": None},
            "frame_index": number,
            "episode_index": number,
            "index": number,
            "task_index": number,
        },
    } | made.info


def clip(path: Path, frames: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return make_clip(path, frames / FPS)


def write_v2(root: Path, made: Made) -> Path:
    """`data/chunk-000/episode_000000.parquet`, `videos/chunk-000/CAMERA/episode_000000.mp4`."""
    meta, data = root / "meta", root / "data" / "chunk-000"
    meta.mkdir(parents=True)
    data.mkdir(parents=True)
    (meta / "info.json").write_text(json.dumps(_info(made, "v2.1")))
    _write_lines(meta / "episodes.jsonl", made.episodes)
    _write_lines(meta / "tasks.jsonl", [{"task_index": n, "task": task} for n, task in enumerate(made.tasks)])
    for index, rows in enumerate(made.rows):
        rows.to_parquet(data / f"episode_{index:06d}.parquet", index=False)
        for camera in (TOP, WRIST):
            clip(root / "videos" / "chunk-000" / camera / f"episode_{index:06d}.mp4", made.lengths[index])
    return root


def _write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def write_v3(root: Path, made: Made) -> Path:
    """One file of data and one of each camera for all episodes, with their bounds in the metadata."""
    for folder in ("meta/episodes/chunk-000", "data/chunk-000", f"videos/{TOP}/chunk-000"):
        (root / folder).mkdir(parents=True)
    (root / "meta" / "info.json").write_text(json.dumps(_info(made, "v3.0")))
    tasks = pd.DataFrame({"task_index": range(len(made.tasks))}, index=list(made.tasks))
    tasks.to_parquet(root / "meta" / "tasks.parquet")
    first = 0
    rows = []
    for episode, length in zip(made.episodes, made.lengths, strict=True):
        row = {"data/chunk_index": 0, "data/file_index": 0, "dataset_from_index": first}
        row["dataset_to_index"] = first + length
        for camera in (TOP, WRIST):
            row |= {f"videos/{camera}/chunk_index": 0, f"videos/{camera}/file_index": 0}
            row |= {f"videos/{camera}/from_timestamp": first / FPS}
            row |= {f"videos/{camera}/to_timestamp": (first + length) / FPS}
        rows.append(row | {"stats/action/max": [1.0]} | episode)
        first += length
    pd.DataFrame(rows).to_parquet(root / "meta" / "episodes" / "chunk-000" / "file-000.parquet")
    pd.concat(made.rows).to_parquet(root / "data" / "chunk-000" / "file-000.parquet", index=False)
    for camera in (TOP, WRIST):
        clip(root / "videos" / camera / "chunk-000" / "file-000.mp4", first)
    return root


def retime(path: Path, factor: float) -> None:
    """The same frames at other times."""
    other = path.with_stem(f"{path.stem}-retimed")
    command = [
        ffmpeg(),
        "-nostdin",
        "-loglevel",
        "error",
        "-i",
        str(path),
        "-vf",
        f"settb=1/15360,setpts={factor}*PTS",
    ]
    subprocess.run(
        [*command, "-fps_mode", "passthrough", "-enc_time_base", "1:15360", "-threads", "1", str(other)],
        check=True,
    )
    other.replace(path)
