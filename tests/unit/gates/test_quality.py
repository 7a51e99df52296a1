"""Paired gates: each sees something bad and something good."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from components.artifacts import Scores
from components.errors import GateFailed, OpsinError
from components.gates.quality import (
    Bootstrap,
    beats_baseline,
    clustered_mean,
    end_token_rate,
    gain_over_question_only,
    macro_difference,
    non_inferior,
    paired_difference,
    regression_budget,
    sees_image,
)
from components.gates.result import require


def predictions(
    accuracy: float,
    *,
    images: int = 200,
    turns: int = 2,
    group: str = "vqa/official_test",
    blind: float = 0.5,
) -> pd.DataFrame:
    """A frame whose accuracies are exact and whose questions are the same for every call."""
    n = images * turns
    order = np.random.default_rng(7).permutation(n)
    return pd.DataFrame(
        {
            "key": [f"{group}-{i // turns:04d}" for i in range(n)],
            "turn": [i % turns for i in range(n)],
            "group": group,
            "correct": (order < accuracy * n).astype(float),
            "question_only_correct": (order < blind * n).astype(float),
            "ended": True,
        }
    )


def scores(directory: Path, frame: pd.DataFrame) -> Scores:
    directory.mkdir(parents=True)
    frame.to_parquet(directory / "predictions.parquet")
    return Scores(uri=str(directory), digest="0", record=str(directory / "record.json"), label="x")


def test_clustered_mean_of_mixed_answers_covers_the_value() -> None:
    frame = predictions(0.7)
    mean = clustered_mean(frame["correct"].tolist(), frame["key"].tolist())
    assert mean.value == pytest.approx(0.7)
    assert 0.6 < mean.low < 0.7 < mean.high < 0.8
    assert mean.n == 400


def test_clustered_mean_of_perfect_answers_keeps_an_honest_width() -> None:
    frame = predictions(1.0, images=20)
    mean = clustered_mean(frame["correct"].tolist(), frame["key"].tolist())
    assert (mean.value, mean.high) == (1.0, 1.0)
    assert 0.7 < mean.low < 0.9  # exact binomial over 20 images, not 40 questions


def test_clustered_mean_of_copied_questions_is_no_surer_than_of_images() -> None:
    once = predictions(0.5, images=100, turns=1)
    copied = pd.concat([once.assign(turn=turn) for turn in range(5)])
    one = clustered_mean(once["correct"].tolist(), once["key"].tolist())
    five = clustered_mean(copied["correct"].tolist(), copied["key"].tolist())
    assert five.high - five.low == pytest.approx(one.high - one.low, rel=0.15)


def test_paired_difference_of_equal_models_is_zero() -> None:
    change = paired_difference(predictions(0.6), predictions(0.6))
    assert (change.value, change.low, change.high) == (0.0, 0.0, 0.0)


def test_paired_difference_is_the_same_whatever_the_order_of_rows() -> None:
    a, b = predictions(0.7), predictions(0.6)
    assert paired_difference(a.sample(frac=1, random_state=3), b) == paired_difference(a, b)


def test_paired_difference_without_shared_questions_is_refused() -> None:
    with pytest.raises(OpsinError, match="share no question"):
        paired_difference(predictions(0.6), predictions(0.6, group="digits/unseen_digits"))


def test_paired_difference_of_one_image_claims_nothing() -> None:
    change = paired_difference(predictions(1.0, images=1), predictions(0.0, images=1))
    assert change.low < -0.9
    assert change.high > 0.9


def test_macro_difference_weighs_groups_equally() -> None:
    small, large = (
        {"group": "chart/unseen_packages", "images": 20},
        {"group": "vqa/official_test", "images": 400},
    )
    a = pd.concat([predictions(0.5, **small), predictions(0.5, **large)])  # type: ignore[arg-type]
    b = pd.concat([predictions(0.1, **small), predictions(0.5, **large)])  # type: ignore[arg-type]
    assert macro_difference(a, b).value == pytest.approx(0.2)


def test_regression_budget_with_a_lost_capability_fails_that_group_only() -> None:
    kept = predictions(0.5, group="digits/unseen_digits")
    before = pd.concat([predictions(0.8), kept])
    after = pd.concat([predictions(0.6), kept])
    results = {gate.name: gate for gate in regression_budget(after, before, 0.05)}
    assert not results["regression_budget/vqa/official_test"].passed
    assert results["regression_budget/digits/unseen_digits"].passed
    with pytest.raises(GateFailed, match="official_test"):
        require(results["regression_budget/vqa/official_test"], where="stage 'sft'")


def test_regression_budget_with_a_drop_within_the_budget_passes() -> None:
    assert all(gate.passed for gate in regression_budget(predictions(0.77), predictions(0.8), 0.05))


def test_regression_budget_with_a_drop_within_noise_passes() -> None:
    before, after = predictions(0.6, images=8, turns=1), predictions(0.5, images=8, turns=1)
    assert all(gate.passed for gate in regression_budget(after, before, 0.05))


def test_non_inferior_with_equal_checkpoints_passes(tmp_path: Path) -> None:
    gate = non_inferior(
        scores(tmp_path / "a", predictions(0.795)), scores(tmp_path / "b", predictions(0.8)), 0.03
    )
    assert gate.passed


def test_non_inferior_with_a_broken_quantization_fails_without_blocking(tmp_path: Path) -> None:
    gate = non_inferior(
        scores(tmp_path / "a", predictions(0.5)), scores(tmp_path / "b", predictions(0.8)), 0.03
    )
    assert not gate.passed
    require(gate, where="stage 'quantize'")  # reported; quantize falls back


def test_non_inferior_with_one_broken_group_among_many_fails(tmp_path: Path) -> None:
    names = [f"caption/g{i}" for i in range(12)]
    good = pd.concat([predictions(0.8, group=name) for name in names])
    bad = good.copy()
    bad.loc[bad["group"] == "caption/g3", "correct"] *= predictions(0.9)["correct"].to_numpy() < 1
    gate = non_inferior(scores(tmp_path / "a", bad), scores(tmp_path / "b", good), 0.1)
    assert not gate.passed
    assert "caption/g3" in gate.observed


def test_non_inferior_with_too_few_questions_to_know_fails(tmp_path: Path) -> None:
    before = predictions(0.5, images=10, turns=1)
    after = before.assign(correct=np.roll(before["correct"], 1))
    assert not non_inferior(scores(tmp_path / "a", after), scores(tmp_path / "b", before), 0.03).passed


def test_beats_baseline_with_a_model_that_looks_passes() -> None:
    gate = beats_baseline(predictions(0.8, blind=0.67), "vqa/official_test", 0.08, blocking=True)
    assert gate.passed


def test_beats_baseline_with_a_model_that_does_not_look_fails() -> None:
    gate = beats_baseline(predictions(0.67, blind=0.67), "vqa/official_test", 0.08, blocking=True)
    assert not gate.passed
    with pytest.raises(GateFailed, match="beats_question_only"):
        require(gate, where="stage 'evaluate'")


def test_beats_baseline_without_questions_fails_and_names_the_groups() -> None:
    gate = beats_baseline(predictions(0.8), "vqa/mistyped", 0.08, blocking=True)
    assert not gate.passed
    assert "vqa/official_test" in gate.fix


def test_end_token_rate_of_endless_generations_fails() -> None:
    frame = predictions(0.8)
    assert end_token_rate(frame, 0.9).passed
    assert not end_token_rate(frame.assign(ended=False), 0.9).passed


def test_gain_over_question_only_follows_the_confidence_asked_for() -> None:
    frame = predictions(0.75, blind=0.6)
    wide, narrow = (gain_over_question_only(frame, Bootstrap(confidence=c)) for c in (0.99, 0.6))
    assert wide.low < narrow.low < wide.value < narrow.high < wide.high


def test_sees_image_passes_where_the_picture_helps_and_fails_where_it_does_not() -> None:
    seeing = pd.concat([predictions(0.5, group=group) for group in ("a/x", "b/y")])
    unseen = seeing.assign(correct=seeing["correct"] * (seeing["group"] == "b/y"))
    helped, idle = sees_image(seeing, unseen, blocking=False)
    assert helped.name == "sees_image/a/x"
    assert helped.passed
    assert not idle.passed
