"""`kill -9` in the middle, then the same command: it continues, and the result is the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from smoke_project import CONFIG, Project, make_project

from components.artifacts import digest_directory

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]


@pytest.fixture
def fresh(tmp_path: Path, downloads: Path) -> Project:
    return make_project(tmp_path / "project", downloads)


def scratch_of(project: Project, stage: str, pattern: str) -> list[Path]:
    """Resumption state that an unfinished stage has left so far."""
    return list((project.root / ".opsin/artifacts" / stage).glob(f"*/scratch/{pattern}"))


def test_curate_killed_twice_gives_the_same_shard_bytes(fresh: Project, finished: Project) -> None:
    for wanted in (1, 3):
        fresh.kill_during(
            lambda wanted=wanted: len(scratch_of(fresh, "curate", "decoded/*.parquet")) >= wanted,
            *("run", CONFIG, "--to", "curate"),
        )
    fresh.opsin("run", CONFIG, "--to", "curate")
    assert digest_directory(fresh.output("curate")) == digest_directory(finished.output("curate"))


def test_pretrain_killed_gives_the_same_evaluation_scores(fresh: Project, finished: Project) -> None:
    arguments = ("run", CONFIG, "--to", "pretrain", "--set", "pretrain.checkpoint_every_s=2")

    def main_run_has_a_checkpoint() -> bool:
        """The proxies are done, and the main run has left resumption state."""
        ablated = list((fresh.root / ".opsin/artifacts/ablate").glob("*/record.json"))
        return bool(ablated) and bool(scratch_of(fresh, "pretrain", "checkpoints/step-*/state.json"))

    fresh.kill_during(main_run_has_a_checkpoint, *arguments)
    fresh.opsin(*arguments)

    def scores(project: Project) -> object:
        return json.loads((project.output("evaluate-pretrain") / "scores.json").read_text())

    assert scores(fresh) == scores(finished)
    assert digest_directory(fresh.output("pretrain")) == digest_directory(finished.output("pretrain"))
