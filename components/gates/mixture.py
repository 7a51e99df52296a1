"""Gates on a mixture: it is one, it keeps the floors, and it is not worse than the stratified one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from components.gates.result import GateResult

ROUNDING = 1e-4
"""Slack for weights that were written with a few decimals."""


def valid_mixture(weights: Mapping[str, float], categories: Sequence[str], min_share: float) -> GateResult:
    """Weights of exactly `categories`, each at least `min_share`, summing to one."""
    total = sum(weights.values())
    problems = []
    if set(weights) != set(categories):
        problems.append(f"weights of {sorted(weights)} for categories {sorted(categories)}")
    if abs(total - 1) > ROUNDING:
        problems.append(f"sum {total:.6f}")
    problems += [
        f"{name} {weight:.4f}"
        for name, weight in sorted(weights.items())
        if not weight >= min_share - ROUNDING
    ]
    return GateResult(
        name="valid_mixture",
        passed=not problems,
        observed="; ".join(problems) or f"sum {total:.6f}, least {min(weights.values()):.4f}",
        required=f"every category of the dataset at least {min_share:.4f}, sum 1",
        fix="lower ablate.min_share, or mend the mixture file",
        evidence={**weights},
    )


def predictor_validated(rank_correlation: float, minimum: float, num_runs: int) -> GateResult:
    """Whether the predictor ranks proxy runs it has not seen. Does not block: stratified is kept."""
    return GateResult(
        name="predictor_validated",
        passed=rank_correlation >= minimum,
        observed=f"leave-one-out Spearman {rank_correlation:+.2f} over {num_runs} proxy runs",
        required=f"at least {minimum:+.2f}",
        blocking=False,
        fix="the stratified mixture is kept; raise ablate.proxies or ablate.steps for a better predictor",
        evidence={"rank_correlation": rank_correlation, "num_runs": num_runs},
    )


def gain_certain(value: float, low: float, high: float) -> GateResult:
    """Whether the predicted gain over stratified excludes zero. Does not block: stratified is kept."""
    return GateResult(
        name="gain_over_stratified",
        passed=low > 0,
        observed=f"predicted gain {value:+.2%} [{low:+.2%}, {high:+.2%}]",
        required="lower bound above 0",
        blocking=False,
        fix="the stratified mixture is kept; raise ablate.proxies or ablate.steps for a better predictor",
        evidence={"value": value, "low": low, "high": high},
    )


def not_worse_than_stratified(loss: float, stratified: float, *, name: str) -> GateResult:
    """Whether the mixture that goes on is predicted at least as good as the stratified one.

    Args:
        loss: Predicted objective of the mixture `name` (lower is better).
        stratified: Predicted objective of the stratified mixture.
    """
    return GateResult(
        name="not_worse_than_stratified",
        passed=loss <= stratified * (1 + 1e-9),
        observed=f"objective of {name} {loss:.4f}",
        required=f"at most stratified's {stratified:.4f}",
        fix="train with the stratified mixture (equal weights)",
        evidence={"loss": loss, "stratified": stratified, "mixture": name},
    )
