"""From pairs of duplicates to the samples that are kept: one way that no order of the pairs can change.

Keeping one sample of each connected component (union-find) would chain: a is like b, b like c, and c, which
is not like a, would go although nothing like it is left. So samples are taken in the order of their
priority, and one goes only for a kept one that it is itself like: no two kept samples are alike, and
nothing goes without such a reason. A cluster is a kept sample and what went for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from components.curate.duplicates.buckets import Rows

ROUNDS = 50
"""Rounds in which all samples decide at once; a chain longer than that is decided link by link."""
UNDECIDED, KEPT, GONE = 0, 1, 2


class Relation(Protocol):
    """Which rows are alike: symmetric, and the same whichever rows are asked about together."""

    def within(self, rows: Rows) -> tuple[Rows, Rows] | None:
        """All pairs of places in `rows` that are alike, each once, the lower place first; None where there
        are too many to be listed."""

    def between(self, rows: Rows, others: Rows) -> tuple[Rows, Rows]:
        """Pairs (place in `rows`, place in `others`) that are alike: for each of `rows` at least the one with
        the lowest place in `others`; some may come more than once."""


def keep_first(rows: Rows, relation: Relation) -> Rows:
    """For each of `rows`, in the order of their priority, the kept row it goes for (itself if it is kept).

    Rows that are all alike have quadratically many pairs. Such rows are halved: the first half is decided
    alone, what is like one of its kept rows goes, and the rest of the second half is decided; the result is
    the same.
    """
    pairs = relation.within(rows)
    if pairs is not None:
        return rows[first_kept(len(rows), *pairs)]
    half = len(rows) // 2
    goes_for = rows.copy()
    goes_for[:half] = keep_first(rows[:half], relation)
    kept = rows[:half][goes_for[:half] == rows[:half]]
    found = lowest_partner(rows[half:], kept, relation.between)
    covered = found >= 0
    goes_for[half:][covered] = kept[found[covered]]
    goes_for[half:][~covered] = keep_first(rows[half:][~covered], relation)
    return goes_for


def lowest_partner(rows: Rows, others: Rows, between: Callable[[Rows, Rows], tuple[Rows, Rows]]) -> Rows:
    """For each of `rows` the lowest place in `others` of a row it is like; -1 for none."""
    found = np.full(len(rows), -1, np.int64)
    left, right = between(rows, others)
    order = np.lexsort((right, left))[::-1]
    found[left[order]] = right[order]  # of several, the last one written stays: the lowest
    return found


def first_kept(num: int, left: Rows, right: Rows) -> Rows:
    """For each of `num` samples in the order of their priority, the kept one it goes for (itself if kept).

    Args:
        num: Samples.
        left: Of each pair that is alike, the sample with the higher priority (the lower number).
        right: The other one.
    """
    state = np.full(num, UNDECIDED, np.int8)
    order = np.lexsort((right, left))
    one, other = left[order], right[order]
    for _ in range(ROUNDS):
        if len(one) == 0:
            break
        # Whoever has no undecided sample before it is kept, and whoever is like a kept one goes.
        waits = np.zeros(num, bool)
        waits[other] = True
        state[one[~waits[one]]] = KEPT
        state[other[state[one] == KEPT]] = GONE
        undecided = (state[one] == UNDECIDED) & (state[other] == UNDECIDED)
        one, other = one[undecided], other[undecided]
    for first, second in zip(one.tolist(), other.tolist(), strict=True):
        if state[first] != GONE:
            state[first] = KEPT
            state[second] = GONE
    state[state == UNDECIDED] = KEPT
    goes_for = np.arange(num)
    reasons = np.flatnonzero((state[left] == KEPT) & (state[right] == GONE))
    reasons = reasons[np.lexsort((left[reasons], right[reasons]))[::-1]]
    goes_for[right[reasons]] = left[reasons]  # of several, the last one written stays: the first in priority
    return goes_for
