"""The funnel: filters in a row; each keeps or rejects with a reason code, nothing is lost, all is counted."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from components.curate.samples import Candidate, Reason

Verdicts: TypeAlias = dict[int, Reason]
"""Position in the list that was filtered → why it is rejected."""
Filter: TypeAlias = Callable[[Sequence[Candidate]], Verdicts]


@dataclass(frozen=True)
class Rejected:
    candidate: Candidate
    reason: Reason


@dataclass(frozen=True)
class Step:
    """What one filter did."""

    name: str
    num_in: int
    num_out: int
    seconds: float
    """Of work, summed over processes."""
    samples_per_s: float
    rejected: dict[str, int]
    """Category → samples rejected."""
    reasons: dict[str, int]
    """Reason code → samples rejected."""


@dataclass
class Funnel:
    """What is left after the filters so far, what was rejected and why, and the count at every filter."""

    kept: list[Candidate]
    rejected: list[Rejected] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    text_steps: list[dict[str, Any]] = field(default_factory=list)
    """What each check of the text filter let through, in its order."""
    notes: dict[str, Any] = field(default_factory=dict)
    """What else the steps have to say, for the report."""

    def apply(self, name: str, judge: Filter, *, spent: float = 0.0) -> None:
        """Run one filter; `spent` is what it already cost elsewhere (decoding in worker processes)."""
        begin, before = time.monotonic(), len(self.kept)
        verdicts = judge(self.kept)
        categories, reasons, survivors = Counter[str](), Counter[str](), list[Candidate]()
        for position, candidate in enumerate(self.kept):
            reason = verdicts.get(position)
            if reason is None:
                survivors.append(candidate)
                continue
            self.rejected.append(Rejected(candidate, reason))
            categories[candidate.category] += 1
            reasons[reason.code] += 1
        self.kept = survivors
        seconds = spent + time.monotonic() - begin
        self.steps.append(
            Step(
                name,
                before,
                len(survivors),
                round(seconds, 3),
                round(before / max(seconds, 1e-6), 1),
                dict(sorted(categories.items())),
                dict(sorted(reasons.items())),
            )
        )
