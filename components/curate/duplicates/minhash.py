"""Nearly equal texts: MinHash (Broder, 1997) with locality-sensitive banding, then the exact similarity.

Banding only proposes pairs; each is judged by the Jaccard similarity of its shingles, so nothing below the
threshold is ever given, and of what lies at the threshold the bands propose 19 of 20, above it more.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from components.curate.duplicates.buckets import Buckets, Rows, Words, mix
from components.curate.duplicates.shingles import ShingleSets

PERMUTATIONS = 128
RECALL = 0.95
"""Of pairs that lie exactly at the threshold."""
TEXTS_AT_ONCE = 512
"""Their signatures (256 kB) stay in the cache."""

Signatures: TypeAlias = npt.NDArray[np.uint32]


def minhash(sets: ShingleSets) -> Signatures:
    """(N, 128): the least value of every permutation over the shingles of each text; texts without any have
    the largest value throughout."""
    generator = np.random.default_rng(1)
    factors, shifts = generator.integers(0, 1 << 32, (2, PERMUTATIONS), dtype=np.uint32)
    factors |= np.uint32(1)  # odd: a permutation of the 32-bit numbers
    values = (sets.values >> np.uint64(8)).astype(np.uint32)
    signatures = np.full((len(sets.sizes), PERMUTATIONS), np.iinfo(np.uint32).max, np.uint32)
    order = np.argsort(-sets.sizes, kind="stable")  # long texts first: those with a j-th shingle are a prefix
    for start in range(0, len(order), TEXTS_AT_ONCE):
        rows = order[start : start + TEXTS_AT_ONCE]
        sizes, begins = sets.sizes[rows], sets.offsets[rows]
        best = signatures[rows]
        for number in range(int(sizes[0])):
            count = int(np.searchsorted(-sizes, -number, side="left"))
            permuted = values[begins[:count] + number][:, None] * factors + shifts
            np.minimum(best[:count], permuted, out=best[:count])
        signatures[rows] = best
    return signatures


def choose_bands(threshold: float) -> tuple[int, int]:
    """(bands, rows of a band): the longest bands that propose `RECALL` of the pairs at the threshold."""
    fitting = [
        (PERMUTATIONS // rows, rows)
        for rows in range(1, PERMUTATIONS + 1)
        if 1 - (1 - threshold**rows) ** (PERMUTATIONS // rows) >= RECALL
    ]
    return fitting[-1] if fitting else (PERMUTATIONS, 1)


def band_keys(signatures: Signatures, threshold: float) -> Words:
    """(bands, N): equal where two texts agree in a whole band."""
    bands, length = choose_bands(threshold)
    keys = np.empty((bands, len(signatures)), np.uint64)
    for band in range(bands):
        key = np.full(len(signatures), band, np.uint64)
        for column in range(band * length, (band + 1) * length):
            key = mix(key ^ signatures[:, column])
        keys[band] = key
    return keys


def propose_within(keys_BN: Words) -> Iterator[tuple[Rows, Rows]]:
    """Every pair of texts that agree in a band once, the lower row first."""
    for band in range(len(keys_BN)):
        buckets = Buckets(keys_BN[band])
        for left, right in buckets.pairs():
            yield _new(keys_BN, buckets.rows[left], keys_BN, buckets.rows[right], band)


def propose_between(queries_BM: Words, keys_BN: Words) -> Iterator[tuple[Rows, Rows]]:
    """(row of `queries_BM`, row of `keys_BN`) of every pair that agrees in a band once."""
    for band in range(len(keys_BN)):
        buckets = Buckets(keys_BN[band])
        for left, right in buckets.lookup(queries_BM[band]):
            yield _new(queries_BM, left, keys_BN, buckets.rows[right], band)


def _new(one_BM: Words, left: Rows, other_BN: Words, right: Rows, band: int) -> tuple[Rows, Rows]:
    """The pairs that agree in this band (keys are cut in buckets) and in none before."""
    new = one_BM[band][left] == other_BN[band][right]
    for earlier in range(band):
        new &= one_BM[earlier][left] != other_BN[earlier][right]
    return left[new], right[new]
