"""Filters that ask a model: what they score, and what they may reject."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made import draw_circle, make_candidate

from components.config import CurateConfig
from components.curate.funnel import Funnel
from components.curate.models import drop_misaligned
from components.curate.samples import Candidate, Place

SPLITS = ("train", "validation", "test")
SIDE = 64


@pytest.fixture
def candidates(tmp_path: Path) -> list[Candidate]:
    """40 samples of each split with the pixels that a decode keeps."""
    path = tmp_path / "pixels"
    size = 3 * SIDE * SIDE
    path.write_bytes(b"".join(draw_circle(number, SIDE).tobytes() for number in range(120)))
    made = []
    for number in range(120):
        each = make_candidate(str(number), split=SPLITS[number % 3], seed=number, answer=f"circle {number}")
        assert each.picture is not None
        pixels = Place(path, number * size, size)
        made.append(replace(each, picture=replace(each.picture, pixels=pixels, pixels_size=(SIDE, SIDE))))
    return made


def judged(candidates: list[Candidate], **alignment: Any) -> Funnel:
    settings = {"vision": "pixels", "folds": 2, "epochs": 1}
    config = CurateConfig.model_validate(
        {
            "sources": [{"locator": "pypi:x==1", "reader": "easy_vqa", "category": "vqa"}],
            "alignment": {"categories": ["vqa"], "contrastive": settings, **alignment},
        }
    )
    funnel = Funnel(list(candidates))
    drop_misaligned(funnel, config, {})
    return funnel


@pytest.mark.parametrize(("threshold", "rejected"), [({"drop_share": 0.5}, 20), ({"min_score": 1e9}, 40)])
def test_misaligned_samples_go_from_training_alone_and_all_are_scored(
    candidates: list[Candidate], threshold: dict[str, float], rejected: int
) -> None:
    funnel = judged(candidates, **threshold)
    assert [each.candidate.split for each in funnel.rejected] == ["train"] * rejected
    assert [each.split for each in funnel.kept].count("test") == 40
    assert all("alignment" in each.scores for each in funnel.kept)
    lowest = sorted(each.candidate.scores["alignment"] for each in funnel.rejected)
    trained = [each.scores["alignment"] for each in funnel.kept if each.split == "train"]
    assert not trained or lowest[-1] <= min(trained)


def test_without_a_threshold_scores_are_recorded_and_nothing_goes(candidates: list[Candidate]) -> None:
    funnel = judged(candidates)
    assert not funnel.rejected and all("alignment" in each.scores for each in funnel.kept)
