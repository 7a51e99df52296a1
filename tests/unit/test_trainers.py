"""Resumption points: only what was written whole counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.trainers import FINISHED, finite_loss, last_checkpoint


def test_last_checkpoint_skips_and_removes_what_is_half_written(tmp_path: Path) -> None:
    for step, whole in ((9, True), (10, True), (11, False)):
        directory = tmp_path / f"checkpoint-{step}"
        directory.mkdir()
        if whole:
            (directory / FINISHED).touch()
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    assert not (tmp_path / "checkpoint-11").exists()


def test_last_checkpoint_none_yet_is_none(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path / "absent") is None


@pytest.mark.parametrize(("loss", "passed"), [(0.5, True), (float("nan"), False), (float("inf"), False)])
def test_finite_loss_refuses_what_is_no_number(loss: float, passed: bool) -> None:
    assert finite_loss(loss).passed is passed
