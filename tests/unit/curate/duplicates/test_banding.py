from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.curate.duplicates import banding
from components.curate.duplicates.banding import pairs_between, pairs_within, tables_of
from components.curate.duplicates.buckets import Buckets

Pairs = list[tuple[int, int]]


def listed(chunks: object) -> Pairs:
    return [(int(one), int(other)) for left, right in chunks for one, other in zip(left, right, strict=True)]  # type: ignore[attr-defined]


def brute_force(hashes: np.ndarray, distance: int, labels: np.ndarray | None = None) -> Pairs:
    return [
        (one, other)
        for one, other in combinations(range(len(hashes)), 2)
        if int(hashes[one] ^ hashes[other]).bit_count() <= distance
        and (labels is None or labels[one] == labels[other])
    ]


@st.composite
def worlds(draw: st.DrawFn) -> np.ndarray:
    """Hashes that are near to a few centres: far more pairs at every distance than chance would give."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    centres = generator.integers(0, 1 << 64, draw(st.integers(1, 4)), dtype=np.uint64)
    hashes = generator.choice(centres, draw(st.integers(0, 60)))
    for _ in range(draw(st.integers(0, 7))):
        flipped = np.uint64(1) << generator.integers(0, 64, len(hashes), dtype=np.uint64)
        hashes ^= flipped * generator.integers(0, 2, len(hashes), dtype=np.uint64)
    return hashes


@given(worlds(), st.integers(0, 10), st.integers(1, 5))
def test_pairs_within_are_those_of_brute_force_each_once(
    hashes: np.ndarray, distance: int, agreeing: int
) -> None:
    """By every kind of table, though so few rows would be compared directly."""
    found = listed(pairs_within(hashes, distance, tables=tables_of(distance, agreeing)))
    assert sorted(found) == brute_force(hashes, distance)
    assert sorted(listed(pairs_within(hashes, distance))) == brute_force(hashes, distance)


@given(worlds(), st.integers(0, 6), st.integers(0, 2**32 - 1))
def test_pairs_within_labels_are_those_of_brute_force(hashes: np.ndarray, distance: int, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 3, len(hashes), dtype=np.uint64)
    found = listed(pairs_within(hashes, distance, labels=labels, tables=tables_of(distance, 2)))
    assert sorted(found) == brute_force(hashes, distance, labels)


@given(worlds(), worlds(), st.integers(0, 8))
def test_pairs_between_are_those_of_brute_force_each_once(
    queries: np.ndarray, hashes: np.ndarray, distance: int
) -> None:
    near = np.bitwise_count(queries[:, None] ^ hashes[None, :]) <= distance
    expected = [(int(one), int(other)) for one, other in np.argwhere(near)]
    for small in (banding.SMALL, -1):  # -1: tables however few rows there are
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(banding, "SMALL", small)
            assert sorted(listed(pairs_between(queries, hashes, distance))) == expected


def test_pairs_within_of_thousands_of_hashes_are_those_of_brute_force() -> None:
    generator = np.random.default_rng(3)
    hashes = generator.integers(0, 1 << 64, 6000, dtype=np.uint64)
    hashes[3000:] = hashes[:3000]
    for _ in range(8):
        hashes[3000:] ^= np.uint64(1) << generator.integers(0, 64, 3000, dtype=np.uint64)
    near = np.bitwise_count(hashes[:, None] ^ hashes[None, :]) <= 8
    expected = {(one, other) for one, other in np.argwhere(near).tolist() if one < other}
    found = listed(pairs_within(hashes, 8))
    assert set(found) == expected and len(found) == len(expected) >= 3000


def test_pairs_within_a_negative_distance_are_none() -> None:
    assert listed(pairs_within(np.zeros(5, np.uint64), -1)) == []
    assert listed(pairs_between(np.zeros(5, np.uint64), np.zeros(5, np.uint64), -1)) == []


@given(st.lists(st.integers(0, 5), max_size=50))
def test_buckets_give_every_pair_of_equal_keys_once(values: list[int]) -> None:
    keys = np.array(values, np.uint64) << np.uint64(32)
    buckets = Buckets(keys)
    found = [
        (int(buckets.rows[i]), int(buckets.rows[j]))
        for left, right in buckets.pairs()
        for i, j in zip(left, right, strict=True)
    ]
    expected = [(i, j) for i, j in combinations(range(len(values)), 2) if values[i] == values[j]]
    assert sorted(found) == expected
    assert buckets.num_pairs() == len(expected)


def test_buckets_larger_than_a_chunk_give_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    from components.curate.duplicates import buckets as module

    monkeypatch.setattr(module, "PAIRS_AT_ONCE", 64)
    monkeypatch.setattr(module, "FEW", 16)
    keys = np.repeat(np.arange(3, dtype=np.uint64) << np.uint64(40), 40)
    chunks = list(Buckets(keys).pairs())
    assert max(len(left) for left, _ in chunks) <= 64
    assert sum(len(left) for left, _ in chunks) == 3 * 40 * 39 // 2
    found = list(Buckets(keys).lookup(keys[:50]))
    assert max(len(left) for left, _ in found) <= 64
    assert sum(len(left) for left, _ in found) == 50 * 40


def test_tables_cover_every_way_to_differ() -> None:
    """Whichever bits differ, some table's blocks are untouched."""
    generator = np.random.default_rng(0)
    for distance, agreeing in ((2, 1), (4, 2), (8, 3)):
        tables = tables_of(distance, agreeing)
        for _ in range(200):
            bits = generator.choice(64, distance, replace=False)
            different = sum(1 << int(bit) for bit in bits)
            assert any(table.chosen & different == 0 for table in tables)
