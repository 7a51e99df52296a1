"""LeRobot's metadata: both layouts are read, and what a stranger wrote cannot lead anywhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_episodes import TASKS, TOP, WRIST, Made, write_v2, write_v3

from components.curate.video.lerobot import Part, orphan_files, read_lerobot
from components.errors import SourceError


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_v2(tmp_path_factory.mktemp("v2") / "robot", Made())


@pytest.fixture(scope="module")
def third(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_v3(tmp_path_factory.mktemp("v3") / "robot", Made())


def test_both_versions_declare_the_same_episodes(second: Path, third: Path) -> None:
    for root in (second, third):
        dataset = read_lerobot(root)
        assert [each.index for each in dataset.episodes] == [0, 1, 2]
        assert [each.length for each in dataset.episodes] == [12, 15, 10]
        assert dataset.tasks == dict(enumerate(TASKS))
        assert dataset.episodes[1].tasks == (TASKS[1],)
        assert [each.name for each in dataset.cameras] == [TOP, WRIST]
        assert dataset.splits == {"train": range(3)}
        action, state = dataset.feature("action"), dataset.feature("observation.state")
        assert action is not None and action.names == ("x", "y", "grip")
        assert state is not None and state.names == ("x", "y")
        assert all((root / each.data_path).is_file() for each in dataset.episodes)
        assert all((root / part.path).is_file() for each in dataset.episodes for part in each.videos.values())
        assert orphan_files(dataset) == []


def test_an_episode_of_version_3_is_a_stretch_of_its_files(third: Path) -> None:
    episode = read_lerobot(third).episodes[1]
    assert episode.first_row == 12
    assert episode.videos[TOP] == Part(f"videos/{TOP}/chunk-000/file-000.mp4", 1.2, 2.7)


def test_files_that_no_episode_names_are_listed(tmp_path: Path) -> None:
    made = Made(lengths=(4, 4))
    made.episodes.pop()
    dataset = read_lerobot(write_v2(tmp_path / "robot", made))
    assert orphan_files(dataset) == [
        "data/chunk-000/episode_000001.parquet",
        f"videos/chunk-000/{TOP}/episode_000001.mp4",
        f"videos/chunk-000/{WRIST}/episode_000001.mp4",
    ]


@pytest.mark.parametrize(
    "pattern",
    [
        "../{episode_index}.parquet",
        "/etc/{episode_index}",
        "data/{episode_index.__class__}",
        "data/{unknown}.parquet",
        "data/{episode_index!r}",
    ],
)
def test_pattern_that_leads_out_is_refused(tmp_path: Path, pattern: str) -> None:
    root = write_meta(tmp_path, {"data_path": pattern})
    dataset = read_lerobot(root)
    assert [each.problem and each.problem.code for each in dataset.episodes] == ["bad_metadata"]


def write_meta(
    root: Path, info: dict[str, object], lines: str = '{"episode_index": 0, "length": 3}\n'
) -> Path:
    """Metadata without data."""
    features = {"action": {"dtype": "float32", "shape": [1]}}
    (root / "meta").mkdir()
    declared = {"codebase_version": "v2.1", "fps": 10, "features": features} | info
    (root / "meta/info.json").write_text(json.dumps(declared))
    (root / "meta/episodes.jsonl").write_text(lines)
    (root / "meta/tasks.jsonl").write_text('{"task_index": 0, "task": "go"}\n')
    return root


def test_episode_whose_metadata_are_broken_is_named_and_others_stay(tmp_path: Path) -> None:
    good, again = '{"episode_index": 0, "length": 3}\n', '{"episode_index": 0, "length": 3}\n'
    bad = '{"episode_index": 1}\n[]\n{"episode_index": 2, "len\n'
    dataset = read_lerobot(write_meta(tmp_path, {}, good + bad + again))
    assert [each.problem.code if each.problem else "" for each in dataset.episodes] == [
        "",
        "bad_metadata",
        "bad_metadata",
        "bad_metadata",
        "duplicate_episode",
    ]


@pytest.mark.parametrize(
    "info",
    [
        {"codebase_version": "v1.6"},
        {"fps": 0},
        {"fps": "fast"},
        {"features": {"action": {"shape": [1]}}},
        {"features": 3},
        {"splits": {"train": "all"}},
    ],
)
def test_metadata_that_cannot_be_used_say_where(tmp_path: Path, info: dict[str, object]) -> None:
    with pytest.raises(SourceError, match="metadata") as caught:
        read_lerobot(write_meta(tmp_path, info))
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("content", [None, b"{", b"[]", b"\xff"])
def test_folder_without_metadata_is_no_dataset(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "meta").mkdir()
        (tmp_path / "meta/info.json").write_bytes(content)
    with pytest.raises(SourceError, match=r"info\.json"):
        read_lerobot(tmp_path)
