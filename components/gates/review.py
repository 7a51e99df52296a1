"""The gate on what people accepted: a lower bound of the accepted rate of new questions and answers."""

from __future__ import annotations

from dataclasses import dataclass

from scipy import stats

from components.gates.result import GateResult


@dataclass(frozen=True)
class ReviewCounts:
    """What became of a seeded review sample."""

    accepted: int
    rejected: int
    pending: int
    """Turns of the sample that nobody has judged."""
    population: int
    """Turns that the sample was drawn from."""
    stale: int = 0
    """Reviews of turns that have changed since; they are not counted."""

    @property
    def reviewed(self) -> int:
        return self.accepted + self.rejected


def accepted_lower_bound(counts: ReviewCounts, confidence: float) -> float:
    """One-sided Wilson bound (Wilson 1927) of the accepted rate; the rate itself where all were reviewed."""
    if not counts.reviewed:
        return 0.0
    if counts.reviewed == counts.population:
        return counts.accepted / counts.reviewed
    test = stats.binomtest(counts.accepted, counts.reviewed, alternative="greater")
    return float(test.proportion_ci(confidence, method="wilson").low)


def review_gate(
    counts: ReviewCounts, *, min_accepted_rate: float, confidence: float, require_reviews: bool
) -> GateResult:
    """Whether enough of the sample was accepted.

    With `require_reviews` every turn of the sample must be judged. Without, a sample that nobody has looked
    at does not block (the gate fails and says so), and one that is judged in part is judged by that part.
    """
    bound = accepted_lower_bound(counts, confidence)
    unjudged = counts.pending > 0 and (require_reviews or not counts.reviewed)
    passed = not counts.population or (not unjudged and bound >= min_accepted_rate)
    rate = f"{counts.accepted / counts.reviewed:.3f}" if counts.reviewed else "unknown"
    fix = "read the rejected rows' notes; mend the templates, the prompt or curate.annotate.quality"
    if unjudged:
        fix = "fill in logs/review/review.csv (or review.html) and name it in curate.annotate.review.file"
    return GateResult(
        name="data/review",
        passed=passed,
        observed=f"accepted rate {rate}, lower bound {bound:.3f}; {counts.reviewed} reviewed, "
        f"{counts.pending} pending, {counts.stale} stale, of {counts.population} new turns",
        required=f"lower bound ({confidence:.0%}, one-sided Wilson) of at least {min_accepted_rate:.3f}"
        + (", none pending" if require_reviews else ""),
        blocking=require_reviews or counts.reviewed > 0,
        fix="" if passed else fix,
        evidence={
            "accepted": counts.accepted,
            "rejected": counts.rejected,
            "pending": counts.pending,
            "stale": counts.stale,
            "population": counts.population,
            "lower_bound": round(bound, 6),
        },
    )
