"""Synchronous streams: each way in which an episode can be out of step ends with its code, the rest stays."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tiny_clips import cut
from tiny_episodes import TOP, WRIST, Made, clip, retime, write_v2, write_v3

from components.config.video import EpisodeFilter
from components.curate.samples import Reason
from components.curate.video.episodes import (
    EpisodeReport,
    episode_jobs,
    episode_verdicts,
    examine_episodes,
    matrix,
)
from components.curate.video.lerobot import read_lerobot

WANTED = EpisodeFilter(seeks=1)


def codes(root: Path, wanted: EpisodeFilter = WANTED) -> list[str]:
    jobs = episode_jobs(read_lerobot(root))
    reports = [report for job in jobs for report in examine_episodes(job, wanted)]
    return [report.code for report in sorted(reports, key=lambda report: report.place)]


@pytest.mark.parametrize("write", [write_v2, write_v3])
def test_sound_episodes_have_no_problem(tmp_path: Path, write: Callable[[Path, Made], Path]) -> None:
    assert codes(write(tmp_path / "robot", Made())) == ["", "", ""]


def test_file_of_data_is_one_job(tmp_path: Path) -> None:
    second, third = write_v2(tmp_path / "2", Made((3, 3))), write_v3(tmp_path / "3", Made((3, 3)))
    assert [job.places for job in episode_jobs(read_lerobot(second))] == [(0,), (1,)]
    assert [job.places for job in episode_jobs(read_lerobot(third))] == [(0, 1)]


def _late(made: Made) -> None:
    made.rows[1].loc[5:, "timestamp"] += np.float32(0.03)


def _backwards(made: Made) -> None:
    made.rows[1].loc[5, "timestamp"] = np.float32(0.2)


def _no_time(made: Made) -> None:
    made.rows[1].loc[5, "timestamp"] = np.float32("nan")


def _swapped(made: Made) -> None:
    made.rows[1].loc[[2, 3], "frame_index"] = [3, 2]


def _not_a_number(made: Made) -> None:
    made.rows[1].at[4, "action"] = np.array([0, np.nan, 1], np.float32)


def _endless(made: Made) -> None:
    made.rows[1].at[4, "observation.state"] = np.array([np.inf, 1], np.float32)


def _wide(made: Made) -> None:
    made.rows[1]["action"] = [np.zeros(4, np.float32)] * 6


def _ragged(made: Made) -> None:
    made.rows[1].at[4, "action"] = np.zeros(2, np.float32)


def _unknown_task(made: Made) -> None:
    made.rows[1]["task_index"] = 7


def _jump(made: Made) -> None:
    made.rows[1].loc[3:, "index"] += 1


def _missing_row(made: Made) -> None:
    made.rows[1] = made.rows[1].drop(index=5)


def _no_action(made: Made) -> None:
    made.rows[1] = made.rows[1].drop(columns="action")


@pytest.mark.parametrize(
    ("break_it", "code"),
    [
        (_late, "timestamp_off"),
        (_backwards, "timestamp_order"),
        (_no_time, "bad_value"),
        (_swapped, "frame_order"),
        (_not_a_number, "bad_value"),
        (_endless, "bad_value"),
        (_wide, "bad_shape"),
        (_ragged, "bad_shape"),
        (_unknown_task, "unknown_task"),
        (_jump, "episode_bounds"),
        (_missing_row, "length_mismatch"),
        (_no_action, "missing_column"),
    ],
)
def test_broken_rows_are_named_and_other_episodes_stay(
    tmp_path: Path, break_it: Callable[[Made], None], code: str
) -> None:
    made = Made((4, 6))
    break_it(made)
    assert codes(write_v2(tmp_path / "robot", made)) == ["", code]


def test_instruction_without_words_is_named_where_one_is_needed(tmp_path: Path) -> None:
    root = write_v2(tmp_path / "robot", Made((4,), tasks=(" ",)))
    assert codes(root) == ["no_instruction"]
    assert codes(root, EpisodeFilter(need_instruction=False, seeks=0)) == [""]


def test_episode_of_too_few_frames_is_named(tmp_path: Path) -> None:
    assert codes(write_v2(tmp_path / "robot", Made((4, 5))), EpisodeFilter(min_frames=5, seeks=0)) == [
        "too_short",
        "",
    ]


def _cut_off(path: Path) -> None:
    cut(path, 0.5).replace(path)


def _one_less(path: Path) -> None:
    clip(path, 5)


def _slow(path: Path) -> None:
    retime(path, 1.05)


@pytest.mark.parametrize(
    ("break_it", "code"),
    [
        (Path.unlink, "missing_video"),
        (_cut_off, "cannot_open"),
        (_one_less, "stream_length"),
        (_slow, "out_of_sync"),
        (lambda path: path.write_bytes(b""), "cannot_open"),
    ],
)
def test_broken_camera_is_named_and_other_episodes_stay(
    tmp_path: Path, break_it: Callable[[Path], None], code: str
) -> None:
    root = write_v2(tmp_path / "robot", Made((4, 6)))
    break_it(root / "videos" / "chunk-000" / WRIST / "episode_000001.mp4")
    assert codes(root) == ["", code]


def test_missing_data_are_named(tmp_path: Path) -> None:
    root = write_v2(tmp_path / "robot", Made((4, 6)))
    (root / "data/chunk-000/episode_000000.parquet").unlink()
    (root / "data/chunk-000/episode_000001.parquet").write_bytes(b"PAR1 no")
    assert codes(root) == ["missing_data", "bad_rows"]


def test_picture_of_another_size_than_declared_is_named(tmp_path: Path) -> None:
    root = write_v2(tmp_path / "robot", Made((4,)))
    info = json.loads((root / "meta/info.json").read_text())
    info["features"][TOP]["shape"] = [3, 480, 640]
    (root / "meta/info.json").write_text(json.dumps(info))
    assert codes(root) == ["wrong_size"]


def test_bounds_that_do_not_fit_the_files_of_version_3_are_named(tmp_path: Path) -> None:
    made = Made((4, 6, 5))
    made.episodes[1] |= {f"videos/{WRIST}/from_timestamp": 0.7}
    made.episodes[2] |= {"dataset_from_index": 9}
    assert codes(write_v3(tmp_path / "robot", made)) == ["", "stream_length", "episode_bounds"]


def test_shift_of_a_camera_of_version_3_is_out_of_sync(tmp_path: Path) -> None:
    made = Made((4, 6))
    made.episodes[1] |= {f"videos/{TOP}/from_timestamp": 0.42}
    root = write_v3(tmp_path / "robot", made)
    assert codes(root) == ["", "out_of_sync"]
    assert codes(root, EpisodeFilter(tolerance_s=0.03, seeks=0)) == ["", ""]


def test_verdicts_are_given_to_every_draft_of_a_bad_episode() -> None:
    reports = [EpisodeReport(0, 0), EpisodeReport(1, 1, "out_of_sync", "by much")]
    verdicts = episode_verdicts({0: 0, 1: 1, 5: 1}, reports)
    assert verdicts == dict.fromkeys((1, 5), Reason("out_of_sync", evidence="by much"))


@pytest.mark.parametrize(
    ("values", "kind", "shape"),
    [
        ([1, 2, None], pa.int64(), (3, 1)),
        ([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32()), (2, 2)),
        ([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32(), 2), (2, 2)),
        ([[[1.0, 2.0]], [[3.0, 4.0]]], pa.list_(pa.list_(pa.float64())), (2, 2)),
        ([[1.0], [2.0, 3.0]], pa.list_(pa.float32()), None),
        ([[1.0], None], pa.list_(pa.float32()), None),
        ([], pa.list_(pa.float32()), None),
    ],
)
def test_matrix_is_frames_by_values(
    values: list[object], kind: pa.DataType, shape: tuple[int, ...] | None
) -> None:
    found = matrix(pa.chunked_array([pa.array(values, kind)]))
    assert (None if found is None else found.shape) == shape
