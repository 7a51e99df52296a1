"""Pairs that share a bucket, by sorting: the one join under hash banding and MinHash banding.

A key and a row number are packed into one 64-bit word, so that a plain sort of one array is the whole join.
What of the key does not fit is cut off; two keys that then coincide only make a pair that whoever asked
throws away after a look at the rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Words: TypeAlias = npt.NDArray[np.uint64]
Rows: TypeAlias = npt.NDArray[np.int64]

PAIRS_AT_ONCE = 1 << 18
"""Pairs given at a time: memory does not grow with the size of a bucket."""
FEW = 4096
"""Places below which stepping through large buckets one by one costs more than listing their pairs."""


def mix(words: Words) -> Words:
    """A bijection of 64-bit words whose high bits depend on all bits (the finalizer of MurmurHash3)."""
    words = words ^ (words >> np.uint64(33))
    words *= np.uint64(0xFF51AFD7ED558CCD)
    words ^= words >> np.uint64(33)
    words *= np.uint64(0xC4CEB9FE1A85EC53)
    words ^= words >> np.uint64(33)
    return words


class Buckets:
    """Rows sorted by the high bits of their keys."""

    def __init__(self, keys: Words) -> None:
        self.row_bits = np.uint64(max(1, len(keys).bit_length()))
        low = (np.uint64(1) << self.row_bits) - np.uint64(1)
        packed = (keys & ~low) | np.arange(len(keys), dtype=np.uint64)
        packed.sort()
        self.rows: Rows = (packed & low).astype(np.int64)
        self.keys: Words = packed >> self.row_bits

    def num_pairs(self) -> int:
        """Pairs of rows that share a bucket."""
        _, followers = self._shared()
        return int(followers.sum())

    def pairs(self) -> Iterator[tuple[Rows, Rows]]:
        """Every pair that shares a bucket once, as places in `rows`; the row at the first place is lower."""
        places, followers = self._shared()
        for start in range(0, len(places), PAIRS_AT_ONCE):
            place, follow = places[start : start + PAIRS_AT_ONCE], followers[start : start + PAIRS_AT_ONCE]
            step = 1
            while len(place) > FEW:  # all pairs `step` places apart: cheap where buckets are small
                yield place, place + step
                place, follow = place[follow > step], follow[follow > step]
                step += 1
            for which, other in _ranges(place + step, place + 1 + follow):
                yield place[which], other

    def _shared(self) -> tuple[Rows, Rows]:
        """Places that are not the last of their bucket, and how many follow each in its bucket."""
        places = np.flatnonzero(self.keys[1:] == self.keys[:-1])
        ends = np.flatnonzero(np.diff(places, append=np.iinfo(np.int64).max) > 1)
        sizes = np.diff(ends, prepend=-1)
        return places, np.repeat(places[ends] + 1, sizes) - places

    def lookup(self, keys: Words) -> Iterator[tuple[Rows, Rows]]:
        """Every pair that shares a bucket, as (row of `keys`, place in `rows`)."""
        wanted = keys >> self.row_bits
        order = np.argsort(wanted)  # a sorted search walks the memory once
        begins = np.searchsorted(self.keys, wanted[order], side="left")
        ends = np.searchsorted(self.keys, wanted[order], side="right")
        for which, place in _ranges(begins, ends):
            yield order[which], place


def _ranges(begins: Rows, ends: Rows) -> Iterator[tuple[Rows, Rows]]:
    """(n, place) for every place in [begins[n], ends[n]), at most `PAIRS_AT_ONCE` at a time."""
    busy = np.flatnonzero(ends > begins)
    if len(busy) == 0:
        return
    counts = (ends - begins)[busy]
    totals = np.cumsum(counts)
    for start in range(0, int(totals[-1]), PAIRS_AT_ONCE):
        stop = min(start + PAIRS_AT_ONCE, int(totals[-1]))
        first, last = np.searchsorted(totals, [start, stop - 1], side="right")
        cut = np.minimum(totals[first : last + 1], stop) - np.maximum(
            totals[first : last + 1] - counts[first : last + 1], start
        )
        which = np.repeat(np.arange(first, last + 1), cut)
        yield busy[which], begins[busy[which]] + np.arange(start, stop) - (totals - counts)[which]
