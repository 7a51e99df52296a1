"""Gates on held-out scores: paired tests of one checkpoint against another, or against no image at all.

Two checkpoints answer the same questions, so their difference is taken question by question: the noise
that both share cancels. Several questions share an image and are not independent, so intervals come from
a bootstrap over images (clusters), not over questions.

A frame of predictions (`predictions.parquet` of a `Scores` artifact) has one row a question: key (of the
image's sample), turn, group, correct (0 or 1), question_only_correct.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from scipy import stats

from components.artifacts import Scores
from components.errors import OpsinError
from components.gates.result import GateResult

Vector: TypeAlias = np.ndarray[tuple[int], np.dtype[np.float64]]


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made."""

    resamples: int = 1000
    confidence: float = 0.95
    seed: int = 0


@dataclass(frozen=True)
class Interval:
    """A mean or a difference of means, as a share (0.05 is 5 points), with its interval."""

    value: float
    low: float
    high: float
    n: int
    """Questions it rests on."""

    def __str__(self) -> str:
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}], n={self.n}"


Difference: TypeAlias = Interval
DEFAULT = Bootstrap()


def clustered_mean(values: Sequence[float], clusters: Sequence[str], how: Bootstrap = DEFAULT) -> Interval:
    """Mean of `values` with a percentile interval over resampled clusters.

    Args:
        values: One number a question, shape (n,), n ≥ 1.
        clusters: The image's key of each question, shape (n,).
        how: Resamples, confidence, seed.

    When every value is the same 0 or 1 the bootstrap is blind (its interval has no width); the exact
    binomial interval over the number of clusters stands in.
    """
    sums, counts = _clusters(np.asarray(values, dtype=np.float64), clusters)
    value = float(sums.sum() / counts.sum())
    if value in (0.0, 1.0):
        exact = stats.binomtest(int(value) * len(sums), len(sums)).proportion_ci(how.confidence)
        return Interval(value, float(exact.low), float(exact.high), len(values))
    drawn = np.clip(_resample(sums, counts, how), 0.0, 1.0)
    return _interval(value, drawn, len(values), how)


def paired_difference(a: pd.DataFrame, b: pd.DataFrame, how: Bootstrap = DEFAULT) -> Difference:
    """Mean of `a.correct - b.correct` over the questions (key, turn) that both answered.

    Raises:
        OpsinError: the two share no question.
    """
    both = _pair(a, b)
    delta = (both["correct_a"] - both["correct_b"]).to_numpy(np.float64)
    sums, counts = _clusters(delta, both["key"])
    return _interval(float(delta.mean()), _resample(sums, counts, how), len(delta), how)


def macro_difference(a: pd.DataFrame, b: pd.DataFrame, how: Bootstrap = DEFAULT) -> Difference:
    """Mean over groups of `paired_difference`: every group counts the same, whatever its size.

    Raises:
        OpsinError: the two share no question.
    """
    both = _pair(a, b)
    values: list[float] = []
    draws: list[Vector] = []
    for _, rows in both.groupby("group", sort=True):
        delta = (rows["correct_a"] - rows["correct_b"]).to_numpy(np.float64)
        values.append(float(delta.mean()))
        draws.append(_resample(*_clusters(delta, rows["key"]), how, stream=len(draws)))
    return _interval(float(np.mean(values)), np.mean(np.stack(draws), axis=0), len(both), how)


def gain_over_question_only(predictions: pd.DataFrame, how: Bootstrap = DEFAULT) -> Difference:
    """Paired difference of the model that sees the image to the baseline that sees the question only."""
    blind = predictions.assign(correct=predictions["question_only_correct"])
    return paired_difference(predictions, blind, how)


def regression_budget(
    predictions: pd.DataFrame,
    baseline: pd.DataFrame,
    budget: float,
    how: Bootstrap = DEFAULT,
    *,
    blocking: bool = True,
) -> list[GateResult]:
    """One gate per group: it fails when the whole interval of the drop lies beyond `budget`.

    A drop within noise passes; a group that only one of the two has is not compared.
    """
    results = []
    for group in sorted(set(predictions["group"]) & set(baseline["group"])):
        ours, theirs = (frame[frame["group"] == group] for frame in (predictions, baseline))
        change = paired_difference(ours, theirs, how)
        results.append(
            GateResult(
                name=f"regression_budget/{group}",
                passed=change.high >= -budget,
                observed=f"change {change}",
                required=f"not wholly below {-budget:+.3f}",
                blocking=blocking,
                fix="train this stage less hard (learning_rate, steps), mix in more of the category, "
                "or widen evaluate.regression_budget",
                evidence=_evidence(change) | {"group": group, "budget": budget},
            )
        )
    return results


def non_inferior(
    quantized: Scores, unquantized: Scores, margin: float, how: Bootstrap = DEFAULT
) -> GateResult:
    """Whether the quantized checkpoint is at most `margin` worse than the unquantized one.

    The lower bound of the mean difference over groups must lie above `-margin`, and no group's interval
    wholly below it. Does not block: quantize falls back to the unquantized checkpoint.
    """
    a, b = read_predictions(quantized), read_predictions(unquantized)
    change = macro_difference(a, b, how)
    broken = [gate for gate in regression_budget(a, b, margin, how) if not gate.passed]
    worst = "".join(f"; {gate.evidence['group']} {gate.observed}" for gate in broken)
    return GateResult(
        name="non_inferior",
        passed=change.low >= -margin and not broken,
        observed=f"change {change}{worst}",
        required=f"lower bound at least {-margin:+.3f}, no group wholly below",
        blocking=False,
        fix="the unquantized checkpoint goes on; raise quantize.calibration_samples or widen quantize.margin",
        evidence=_evidence(change) | {"margin": margin},
    )


def beats_baseline(
    predictions: pd.DataFrame, group: str, min_gain: float, *, blocking: bool, how: Bootstrap = DEFAULT
) -> GateResult:
    """Whether the model gains `min_gain` over the question-only baseline, the interval excluding zero.

    A model that does not has learnt the questions and not to look. A group without questions fails.
    """
    rows = predictions[predictions["group"] == group]
    required = f"at least {min_gain:+.3f}, interval above 0"
    fix = "train longer, or on more of the category; a gain near zero means the image is not used"
    if rows.empty:
        return GateResult(
            name=f"beats_question_only/{group}",
            passed=False,
            observed="no held-out questions",
            required=required,
            blocking=blocking,
            fix=f"groups here: {', '.join(sorted(set(predictions['group']))) or 'none'}; "
            "mend evaluate.min_gain or add the source",
        )
    gain = gain_over_question_only(rows, how)
    return GateResult(
        name=f"beats_question_only/{group}",
        passed=gain.value >= min_gain and gain.low > 0,
        observed=f"gain {gain}",
        required=required,
        blocking=blocking,
        fix=fix,
        evidence=_evidence(gain) | {"group": group, "min_gain": min_gain},
    )


def sees_image(
    seeing: pd.DataFrame, unseen: pd.DataFrame, *, blocking: bool, how: Bootstrap = DEFAULT
) -> list[GateResult]:
    """One gate per group of `unseen`: the model does better with the picture than without, beyond noise.

    Args:
        seeing: Predictions of the model that is shown the picture.
        unseen: Of the same model for the same questions without it.
    """
    results = []
    for group in sorted(set(unseen["group"])):
        with_image, without = (frame[frame["group"] == group] for frame in (seeing, unseen))
        gain = paired_difference(with_image, without, how)
        results.append(
            GateResult(
                name=f"sees_image/{group}",
                passed=gain.low > 0,
                observed=f"gain {gain}",
                required="interval above 0, against the same model without the picture",
                blocking=blocking,
                fix="train longer, or on more of the category; a gain near zero means the image is not used",
                evidence=_evidence(gain) | {"group": group},
            )
        )
    return results


def end_token_rate(predictions: pd.DataFrame, minimum: float, *, blocking: bool = True) -> GateResult:
    """Whether generations end by themselves often enough (the end token was learnt)."""
    rate = float(predictions["ended"].mean())
    return GateResult(
        name="end_token_rate",
        passed=rate >= minimum,
        observed=f"{rate:.3f}",
        required=f"at least {minimum:.3f}",
        blocking=blocking,
        fix="check that the end token is labelled in training, or raise evaluate.max_new_tokens",
        evidence={"rate": rate, "n": len(predictions)},
    )


def read_predictions(scores: Scores) -> pd.DataFrame:
    """The predictions behind `scores`, one row a question."""
    return pd.read_parquet(scores.path / "predictions.parquet")


def _pair(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    columns = ["key", "turn", "group", "correct"]
    both = a[columns].merge(
        b[["key", "turn", "correct"]], on=["key", "turn"], suffixes=("_a", "_b"), validate="1:1"
    )
    if both.empty:
        raise OpsinError(
            "two evaluations share no question and cannot be compared",
            where=f"{len(a)} and {len(b)} predictions",
            fix="evaluate both checkpoints on the same dataset and with the same evaluate.seed",
        )
    return both


def _clusters(values: Vector, clusters: Iterable[str]) -> tuple[Vector, Vector]:
    """Sum and number of the values of each cluster, both of shape (clusters,)."""
    frame = pd.DataFrame({"value": values, "cluster": list(clusters)})
    grouped = frame.groupby("cluster", sort=True)["value"].agg(["sum", "count"])
    return grouped["sum"].to_numpy(np.float64), grouped["count"].to_numpy(np.float64)


def _resample(sums: Vector, counts: Vector, how: Bootstrap, stream: int = 0) -> Vector:
    """Bootstrap distribution of sum(sums) / sum(counts), shape (resamples,)."""
    if len(sums) < 2:  # one image says nothing about others
        return np.linspace(-1.0, 1.0, how.resamples)

    def ratio(s: Any, c: Any, axis: int = -1) -> Any:
        return s.sum(axis=axis) / c.sum(axis=axis)

    drawn = stats.bootstrap(
        (sums, counts),
        ratio,
        paired=True,
        vectorized=True,
        n_resamples=how.resamples,
        method="percentile",
        rng=np.random.default_rng([how.seed, stream]),
    )
    distribution: Vector = drawn.bootstrap_distribution
    return distribution


def _interval(value: float, draws: Vector, n: int, how: Bootstrap) -> Interval:
    tail = (1 - how.confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    # Rounded: the last bits of a mean hang on summation order, and scores are digested.
    return Interval(round(value, 9), round(float(low), 9), round(float(high), 9), n)


def _evidence(difference: Difference) -> dict[str, str | int | float | bool | None]:
    return {
        "value": difference.value,
        "low": difference.low,
        "high": difference.high,
        "n": difference.n,
    }
