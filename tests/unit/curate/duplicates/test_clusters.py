from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from components.curate.duplicates.buckets import Rows
from components.curate.duplicates.clusters import first_kept, keep_first


@st.composite
def graphs(draw: st.DrawFn) -> np.ndarray:
    """A symmetric relation between up to 25 samples, as a matrix."""
    num = draw(st.integers(0, 25))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    alike = generator.random((num, num)) < draw(st.sampled_from([0.02, 0.1, 0.3, 0.9]))
    alike = np.triu(alike, 1)
    return alike | alike.T


class Matrix:
    """A relation that lists at most `limit` pairs at once."""

    def __init__(self, alike: np.ndarray, limit: int) -> None:
        self.alike, self.limit = alike, limit

    def within(self, rows: Rows) -> tuple[Rows, Rows] | None:
        left, right = np.nonzero(np.triu(self.alike[np.ix_(rows, rows)], 1))
        return None if len(left) > self.limit and len(rows) > 1 else (left, right)

    def between(self, rows: Rows, others: Rows) -> tuple[Rows, Rows]:
        left, right = np.nonzero(self.alike[np.ix_(rows, others)])
        return left, right


def one_by_one(alike: np.ndarray) -> list[int]:
    """The rule in its plainest form."""
    goes_for: list[int] = []
    for sample in range(len(alike)):
        like = [other for other in range(sample) if goes_for[other] == other and alike[sample, other]]
        goes_for.append(like[0] if like else sample)
    return goes_for


@given(graphs(), st.integers(0, 2**32 - 1))
def test_first_kept_is_the_plain_rule_in_whatever_order_pairs_come(alike: np.ndarray, seed: int) -> None:
    left, right = np.nonzero(np.triu(alike, 1))
    order = np.random.default_rng(seed).permutation(len(left))
    assert first_kept(len(alike), left[order], right[order]).tolist() == one_by_one(alike)


@given(graphs(), st.integers(0, 40))
def test_keep_first_by_halves_is_the_plain_rule(alike: np.ndarray, limit: int) -> None:
    found = keep_first(np.arange(len(alike)), Matrix(alike, limit))
    assert found.tolist() == one_by_one(alike)


@given(graphs(), st.integers(0, 2**32 - 1))
def test_keep_first_keeps_none_alike_and_drops_none_without_a_kept_one(alike: np.ndarray, seed: int) -> None:
    """In any priority, also where alike samples chain."""
    rows = np.random.default_rng(seed).permutation(len(alike))
    goes_for = keep_first(rows, Matrix(alike, limit=5))
    kept = rows[goes_for == rows]
    assert not alike[np.ix_(kept, kept)].any()
    for row, other in zip(rows.tolist(), goes_for.tolist(), strict=True):
        assert other in kept
        assert row == other or alike[row, other]


def test_first_kept_follows_a_chain_longer_than_its_rounds() -> None:
    """Every second link stays: none of them is like another."""
    links = np.arange(2001)
    goes_for = first_kept(2002, links, links + 1)
    assert (goes_for[::2] == np.arange(0, 2002, 2)).all()
    assert (goes_for[1::2] == np.arange(0, 2002, 2)).all()


def test_first_kept_without_pairs_keeps_all() -> None:
    none = np.zeros(0, np.int64)
    assert first_kept(4, none, none).tolist() == [0, 1, 2, 3]
