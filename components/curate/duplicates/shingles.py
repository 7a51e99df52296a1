"""Sets of shingles (runs of words or characters) of whole columns of texts, and their exact similarity.

A shingle is the hash of its bytes, taken as a difference of prefix sums of a polynomial modulo 2^64: a run of
any length costs the same, and no text is looked at in Python.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from components.curate.duplicates.buckets import Rows, Words, mix

CHARACTERS = 5
"""Of a shingle where it is not made of words."""
VALUE_BITS = 40
"""Of a shingle's hash, so that (text, shingle) is one word and sorts fast. In two texts of a thousand
shingles each, two different ones coincide once in a million pairs of texts."""
BYTES_AT_ONCE = 1 << 20
SHINGLES_AT_ONCE = 1 << 20
BASE = 0x9E3779B97F4A7C15
"""Of the polynomial; odd, so that it has an inverse modulo 2^64."""


@dataclass(frozen=True)
class ShingleSets:
    """The distinct shingles of N texts, in ascending order."""

    values: Words
    """(all shingles,), hashes of `VALUE_BITS` bits."""
    offsets: Rows
    """(N + 1,): text n has `values[offsets[n] : offsets[n + 1]]`."""

    @property
    def sizes(self) -> Rows:
        return np.diff(self.offsets)

    def take(self, rows: Rows) -> tuple[Words, Rows]:
        """The shingles of some texts one after another, and for each the place of its text in `rows`."""
        sizes = self.sizes[rows]
        which = np.repeat(np.arange(len(rows)), sizes)
        inside = np.arange(len(which)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return self.values[self.offsets[rows][which] + inside], which


def shingle(texts: pa.Array, *, words: int) -> ShingleSets:
    """
    Args:
        texts: Strings; case, width and spacing do not count.
        words: Of a shingle; 0: five characters. A shorter text is one shingle, an empty one has none.
    """
    folded = _fold(texts)
    values, counts = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for chunk in _chunks(folded):
        value, count = _shingle_chunk(chunk, words)
        values.append(value)
        counts.append(count)
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
    return ShingleSets(np.concatenate(values), offsets.astype(np.int64))


def jaccard(sets: ShingleSets, left: Rows, right: Rows) -> npt.NDArray[np.float64]:
    """Shared by all shingles of each pair of texts, (pairs,); 0 where both have none."""
    similarity = np.zeros(len(left))
    sizes = sets.sizes
    steps = np.cumsum(sizes[left] + sizes[right]) // SHINGLES_AT_ONCE
    bounds = np.concatenate([[0], np.flatnonzero(np.diff(steps)) + 1, [len(left)]])
    for start, stop in pairwise(bounds):
        one, other = left[start:stop], right[start:stop]
        packed = []
        for rows in (one, other):
            values, which = sets.take(rows)
            packed.append((which.astype(np.uint64) << np.uint64(VALUE_BITS)) | values)
        both = np.sort(np.concatenate(packed))
        pair = (both[:-1][both[1:] == both[:-1]] >> np.uint64(VALUE_BITS)).astype(np.int64)
        shared = np.bincount(pair, minlength=len(one))
        total = sizes[one] + sizes[other] - shared
        similarity[start:stop] = shared / np.maximum(total, 1)
    return similarity


def _fold(texts: pa.Array) -> pa.Array:
    lower = pc.utf8_lower(pc.utf8_normalize(pc.fill_null(texts.cast(pa.large_string()), ""), form="NFKD"))
    return pc.utf8_trim_whitespace(pc.replace_substring_regex(lower, pattern=r"\s+", replacement=" "))


def _chunks(texts: pa.Array) -> Iterator[pa.Array]:
    """Slices of some `BYTES_AT_ONCE` each (one text may be longer)."""
    ends = np.cumsum(pc.binary_length(texts).to_numpy(zero_copy_only=False) + 1)
    start = 0
    while start < len(texts):
        base = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, base + BYTES_AT_ONCE, side="right")))
        yield texts.slice(start, stop - start)
        start = stop


def _shingle_chunk(texts: pa.Array, words: int) -> tuple[Words, Rows]:
    """Distinct shingles text by text, and how many each text has."""
    if words:  # every word ends with a space, also the last
        nothing, space = (pa.scalar(text, pa.large_string()) for text in ("", " "))
        texts = pc.binary_join_element_wise(texts, nothing, space)
    content, ends = _bytes(texts)
    begins = np.concatenate([[0], ends[:-1]])
    units = np.flatnonzero(_starts(content, begins, of_words=bool(words)))
    text_of_unit = np.repeat(np.arange(len(texts)), np.diff(np.searchsorted(units, ends), prepend=0))
    length = words or CHARACTERS
    # A run goes from its first unit to where the unit after its last one begins, or to the end of its text.
    after = np.concatenate([units[length:], np.full(min(length, len(units)), len(content))])
    run_ends = np.minimum(after, ends[text_of_unit])
    first = np.concatenate([[True], text_of_unit[1:] != text_of_unit[:-1]])[: len(units)]
    complete = np.zeros(len(units), bool)
    last = text_of_unit[length - 1 :]
    complete[: len(last)] = text_of_unit[: len(last)] == last
    chosen = complete | first  # the first run of a short text is the text
    values = _hash_runs(content, units[chosen], run_ends[chosen])
    packed = np.sort((text_of_unit[chosen].astype(np.uint64) << np.uint64(VALUE_BITS)) | values)
    packed = packed[np.concatenate([[True], packed[1:] != packed[:-1]])[: len(packed)]]
    counts = np.bincount((packed >> np.uint64(VALUE_BITS)).astype(np.int64), minlength=len(texts))
    return packed & np.uint64((1 << VALUE_BITS) - 1), counts


def _bytes(texts: pa.Array) -> tuple[npt.NDArray[np.uint8], Rows]:
    """All bytes of a column one after another, and where each text ends."""
    _, offsets_buffer, content_buffer = texts.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    content = np.frombuffer(content_buffer or b"", np.uint8)[offsets[0] : offsets[-1]]
    return content, offsets[1:] - offsets[0]


def _starts(content: npt.NDArray[np.uint8], begins: Rows, *, of_words: bool) -> npt.NDArray[np.bool_]:
    """Which bytes begin a word or a character."""
    if of_words:
        after_space = np.concatenate([[True], content[:-1] == ord(" ")])[: len(content)]
        after_space[begins[begins < len(content)]] = True
        starts: npt.NDArray[np.bool_] = after_space & (content != ord(" "))
    else:
        starts = (content & 0xC0) != 0x80  # all but the continuation bytes of UTF-8
    return starts


def _hash_runs(content: npt.NDArray[np.uint8], begins: Rows, ends: Rows) -> Words:
    """Hash (VALUE_BITS bits) of the bytes [begin, end) of each run: equal bytes, equal hash."""
    powers = _powers(len(content), BASE)
    terms = _byte_values()[content] * powers
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(terms, dtype=np.uint64)])
    back = _powers(len(content), pow(BASE, -1, 1 << 64))
    values = (sums[ends] - sums[begins]) * back[begins]
    return mix(values) >> np.uint64(64 - VALUE_BITS)


def _powers(count: int, base: int) -> Words:
    return _all_powers(base, 1 << max(16, (count - 1).bit_length()))[:count]


@cache
def _all_powers(base: int, count: int) -> Words:
    powers = np.full(count, base, np.uint64)
    powers[0] = 1
    return np.multiply.accumulate(powers)


@cache
def _byte_values() -> Words:
    return np.random.default_rng(5).integers(1, 1 << 64, 256, dtype=np.uint64)
