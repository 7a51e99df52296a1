"""Gates on a mixture: it is one, it keeps the floors, and it is not worse than the stratified one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from components.gates.result import GateResult

ROUNDING = 1e-4
"""Slack for weights that were written with a few decimals."""


def valid_mixture(
    weights: Mapping[str, float], categories: Sequence[str], floors: Mapping[str, float]
) -> GateResult:
    """Weights of exactly `categories`, each at least its floor (0 where none is given), summing to one."""
    total = sum(weights.values())
    problems = []
    if set(weights) != set(categories):
        problems.append(f"weights of {sorted(weights)} for categories {sorted(categories)}")
    if abs(total - 1) > ROUNDING:
        problems.append(f"sum {total:.6f}")
    problems += [
        f"{name} {weight:.4f}"
        for name, weight in sorted(weights.items())
        if not weight >= floors.get(name, 0.0) - ROUNDING
    ]
    return GateResult(
        name="valid_mixture",
        passed=not problems,
        observed="; ".join(problems) or f"sum {total:.6f}, least {min(weights.values()):.4f}",
        required=f"every category of the dataset at least {_least(floors)}, sum 1",
        fix="lower ablate.min_share or ablate.floors, or mend the mixture file",
        evidence={**weights},
    )


def same_pool(trained_on: Mapping[str, Sequence[str]], dataset: str) -> GateResult:
    """Whether every proxy run drew from the very data that the mixture is for: a mixture that was found on
    another pool, or on the same pool in another quality, says little of this one.

    Args:
        trained_on: Candidate → digests of the datasets that its proxy was trained on.
        dataset: Digest of the data that the mixture is for.
    """
    strays = {name: digests for name, digests in trained_on.items() if list(digests) != [dataset]}
    told = "; ".join(
        f"'{name}' on {', '.join(digest[:8] for digest in digests) or 'none'}"
        for name, digests in sorted(strays.items())
    )
    return GateResult(
        name="same_pool",
        passed=not strays,
        observed=f"proxies on other data: {told}"
        if strays
        else f"{len(trained_on)} proxies on {dataset[:8]}",
        required=f"every proxy trained on dataset {dataset[:8]}, which the mixture is for",
        fix="run the proxies again on this dataset (a filter or a source changed since)",
        evidence={"dataset": dataset, "strays": ", ".join(sorted(strays))},
    )


def predictor_validated(rank_correlation: float, minimum: float, num_runs: int) -> GateResult:
    """Whether the predictor ranks proxy runs it has not seen. Does not block: stratified is kept."""
    return GateResult(
        name="predictor_validated",
        passed=rank_correlation >= minimum,
        observed=f"cross-validated Spearman {rank_correlation:+.2f} over {num_runs} proxy runs",
        required=f"at least {minimum:+.2f}",
        blocking=False,
        fix="the stratified mixture is kept; raise ablate.proxies or ablate.steps for a better predictor",
        evidence={"rank_correlation": rank_correlation, "num_runs": num_runs},
    )


def gain_certain(value: float, low: float, high: float, *, minimum: float = 0.0) -> GateResult:
    """Whether the predicted gain over stratified is surely above `minimum`. Does not block: stratified is
    kept."""
    return GateResult(
        name="gain_over_stratified",
        passed=low > minimum,
        observed=f"predicted gain {value:+.2%} [{low:+.2%}, {high:+.2%}]",
        required=f"lower bound above {minimum:.2%}",
        blocking=False,
        fix="the stratified mixture is kept; raise ablate.proxies or ablate.steps for a better predictor",
        evidence={"value": value, "low": low, "high": high},
    )


def gain_confirmed(value: float, low: float, high: float, *, pairs: int, minimum: float = 0.0) -> GateResult:
    """Whether pairs of new runs at equal tokens show the gain. Does not block: stratified is kept."""
    return GateResult(
        name="gain_confirmed",
        passed=low > minimum,
        observed=f"gain {value:+.2%} [{low:+.2%}, {high:+.2%}] in {pairs} pairs of runs at equal tokens",
        required=f"lower bound above {minimum:.2%}",
        blocking=False,
        fix="stratified is kept; more ablate.confirm_pairs or longer ablate.confirm_steps see smaller gains",
        evidence={"value": value, "low": low, "high": high, "pairs": pairs},
    )


def recipe_valid(
    *, changed: Sequence[str], gone: Sequence[str], new: Sequence[str], known: bool
) -> GateResult:
    """Whether a recipe was found on the very data that it is now taken for.

    Args:
        changed: Categories whose samples are other than the recipe's.
        gone: Categories that it alone has.
        new: Categories that the data alone have.
        known: Whether the recipe tells what it was found on.
    """
    words = ((changed, "other samples of"), (gone, "no more"), (new, "never seen by its runs:"))
    problems = [f"{word} {', '.join(names)}" for names, word in words if names]
    return GateResult(
        name="recipe_valid",
        passed=not problems,
        observed="; ".join(problems)
        or ("the same data" if known else "it does not say what it was found on"),
        required="the data that the recipe was found on",
        fix="let a few of its runs be repeated (ablate.proxies above 0)"
        if changed and not gone and not new
        else "leave ablate.recipe out and search anew",
        evidence={"changed": ", ".join(changed), "gone": ", ".join(gone), "new": ", ".join(new)},
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


def _least(floors: Mapping[str, float]) -> str:
    least = sorted(set(floors.values())) or [0.0]
    return " or ".join(f"{floor:.4f}" for floor in least)
