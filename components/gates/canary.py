"""The canary's decision: is the candidate worse than the champion by more than the budget allows?

A pure function from what both arms did to a verdict. Three harms are bounded, each against its budget:

* the increase of the error rate and the drop of the share of right answers: differences of two
  proportions, Newcombe's interval (Statistics in Medicine 17, 1998, method 10), which holds up at 0 errors;
* the ratio of the median times to first token: exact order-statistic intervals of both medians, combined.

Looking again and again is honest: a rollback needs the *lower* bound of a harm beyond its budget at a level
divided by the number of looks and of harms (Bonferroni), so that a candidate within budget is rolled back
with a chance of at most alpha over the whole canary. A promotion is decided once, at the end, and needs all
*upper* bounds within budget: an intersection-union test, so each may use the whole of alpha.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from scipy import stats

from components.gates.result import GateResult

Verdict: TypeAlias = Literal["promoted", "rolled_back", "inconclusive"]
NUM_HARMS = 3


@dataclass(frozen=True)
class Budget:
    """How much worse than the champion a candidate may be."""

    error_rate_increase: float
    accuracy_drop: float
    ttft_ratio: float
    alpha: float = 0.05
    """Chance of a wrong rollback over the whole canary, and of a wrong promotion."""


@dataclass(frozen=True)
class ArmCounts:
    """What one arm did: independent requests that it was given."""

    requests: int
    errors: int
    answers: int
    """Requests answered and compared with the ground truth."""
    correct: int
    ttft_s: tuple[float, ...]
    """Time to first token of each answered request, in a unit that both arms share."""


@dataclass(frozen=True)
class Bounds:
    """A harm as observed, bounded from both sides (one-sided levels)."""

    observed: float
    low: float
    """At the level of one look: the harm is at least this."""
    high: float
    """At the level of the closing decision: the harm is at most this."""


@dataclass(frozen=True)
class Decision:
    """What a look at the arms says."""

    verdict: Verdict
    reason: str
    gates: tuple[GateResult, ...]


def decide(stable: ArmCounts, canary: ArmCounts, budget: Budget, *, looks: int, last: bool) -> Decision:
    """Judge the canary from all requests so far.

    Args:
        looks: Number of looks planned over the whole canary.
        last: Whether this is the closing look, the only one that may promote.

    Returns:
        `rolled_back` when a harm is surely beyond its budget, `promoted` when at the last look all are
        surely within, else `inconclusive`.
    """
    early = budget.alpha / (looks * NUM_HARMS)
    harms = {
        "canary/error_rate": (_error_rate(stable, canary, early, budget.alpha), budget.error_rate_increase),
        "canary/accuracy": (_accuracy(stable, canary, early, budget.alpha), budget.accuracy_drop),
        "canary/ttft": (median_ratio(stable.ttft_s, canary.ttft_s, early, budget.alpha), budget.ttft_ratio),
    }
    gates = tuple(_gate(name, bounds, most, stable, canary) for name, (bounds, most) in harms.items())
    beyond = [name for name, (bounds, most) in harms.items() if bounds.low > most]
    if beyond:
        return Decision("rolled_back", _reason(gates, beyond), gates)
    open_ = [gate.name for gate in gates if not gate.passed]
    if last and not open_:
        return Decision("promoted", "every harm is within its budget", gates)
    return Decision("inconclusive", _reason(gates, open_) or "more requests to come", gates)


def difference(bad_a: int, n_a: int, bad_b: int, n_b: int, early: float, closing: float) -> Bounds:
    """Share of `b` minus share of `a`, with one-sided Newcombe bounds. Without requests: anything."""
    if not n_a or not n_b:
        return Bounds(0.0, -1.0, 1.0)
    share_a, share_b = bad_a / n_a, bad_b / n_b
    observed = share_b - share_a
    low_b, high_a = _wilson(bad_b, n_b, early)[0], _wilson(bad_a, n_a, early)[1]
    high_b, low_a = _wilson(bad_b, n_b, closing)[1], _wilson(bad_a, n_a, closing)[0]
    return Bounds(
        observed,
        observed - math.hypot(share_b - low_b, high_a - share_a),
        observed + math.hypot(high_b - share_b, share_a - low_a),
    )


def median_ratio(a: Sequence[float], b: Sequence[float], early: float, closing: float) -> Bounds:
    """Median of `b` over median of `a`, with one-sided bounds (half of the level to each median)."""
    if not a or not b:
        return Bounds(1.0, 0.0, math.inf)
    middle_a, middle_b = sorted(a)[len(a) // 2], sorted(b)[len(b) // 2]
    low = _median_bounds(b, early / 2)[0] / _median_bounds(a, early / 2)[1]
    high_b, low_a = _median_bounds(b, closing / 2)[1], _median_bounds(a, closing / 2)[0]
    return Bounds(middle_b / middle_a, low, high_b / low_a if low_a > 0 else math.inf)


def _error_rate(stable: ArmCounts, canary: ArmCounts, early: float, closing: float) -> Bounds:
    return difference(stable.errors, stable.requests, canary.errors, canary.requests, early, closing)


def _accuracy(stable: ArmCounts, canary: ArmCounts, early: float, closing: float) -> Bounds:
    """The drop: the canary's share of wrong answers minus the champion's."""
    wrong_a, wrong_b = stable.answers - stable.correct, canary.answers - canary.correct
    return difference(wrong_a, stable.answers, wrong_b, canary.answers, early, closing)


def _wilson(count: int, n: int, level: float) -> tuple[float, float]:
    """Wilson's score bounds of a share, each one-sided at `level`."""
    z = float(stats.norm.isf(level))
    share = count / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def _median_bounds(values: Sequence[float], level: float) -> tuple[float, float]:
    """Exact bounds of the median, each one-sided at `level`: order statistics, no shape assumed."""
    ordered, n = sorted(values), len(values)
    # P(Binomial(n, 1/2) < rank) <= level: at least `rank` values lie below the median but for that chance.
    rank = int(stats.binom.ppf(level, n, 0.5))
    if stats.binom.cdf(rank, n, 0.5) > level:
        rank -= 1
    if rank < 0:
        return 0.0, math.inf
    return ordered[rank], ordered[n - 1 - rank]


def _gate(name: str, bounds: Bounds, most: float, stable: ArmCounts, canary: ArmCounts) -> GateResult:
    high = bounds.high if math.isfinite(bounds.high) else None
    return GateResult(
        name=name,
        passed=bounds.high <= most,
        observed=f"{bounds.observed:.3f} (at least {bounds.low:.3f}, at most {bounds.high:.3f})",
        required=f"at most {most:.3f}, surely",
        blocking=False,
        fix="read the canary's timeline in the report; the champion stays in place",
        evidence={
            "value": bounds.observed,
            "low": bounds.low,
            "high": high,
            "budget": most,
            "stable_requests": stable.requests,
            "canary_requests": canary.requests,
        },
    )


def _reason(gates: Sequence[GateResult], names: Sequence[str]) -> str:
    return "; ".join(
        f"{gate.name}: {gate.observed}, required {gate.required}" for gate in gates if gate.name in names
    )
