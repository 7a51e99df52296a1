"""The review gate: passes on enough accepted turns, fails on too few, says what is missing."""

from __future__ import annotations

import math
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.errors import GateFailed
from components.gates import GateResult, require
from components.gates.review import ReviewCounts, accepted_lower_bound, review_gate


def judge(counts: ReviewCounts, *, require_reviews: bool = False, rate: float = 0.9) -> GateResult:
    return review_gate(counts, min_accepted_rate=rate, confidence=0.95, require_reviews=require_reviews)


def test_review_gate_passes_a_sample_that_is_accepted() -> None:
    gate = judge(ReviewCounts(98, 2, 0, 5000), require_reviews=True)
    assert gate.passed and gate.blocking
    n, p, z = 100, 0.98, NormalDist().inv_cdf(0.95)
    centre, spread = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert gate.evidence["lower_bound"] == pytest.approx((centre - spread) / (1 + z * z / n), abs=1e-6)


def test_review_gate_fails_a_sample_that_is_not() -> None:
    gate = judge(ReviewCounts(90, 10, 0, 5000))
    assert not gate.passed and gate.blocking
    with pytest.raises(GateFailed, match="data/review"):
        require(gate, where="curate")


def test_review_gate_fails_a_good_rate_on_too_few() -> None:
    assert not judge(ReviewCounts(9, 0, 0, 5000)).passed


def test_review_gate_without_reviews_blocks_only_where_they_are_required() -> None:
    unread = ReviewCounts(0, 0, 50, 5000)
    assert not judge(unread).passed and not judge(unread).blocking
    assert not judge(unread, require_reviews=True).passed and judge(unread, require_reviews=True).blocking


def test_review_gate_judges_half_a_sample_only_where_reviews_are_not_required() -> None:
    half = ReviewCounts(60, 0, 40, 5000)
    assert judge(half).passed
    gate = judge(half, require_reviews=True)
    assert not gate.passed and "40 pending" in gate.observed and "review" in gate.fix


def test_review_gate_of_all_turns_needs_no_interval() -> None:
    assert judge(ReviewCounts(9, 1, 0, 10)).passed
    assert not judge(ReviewCounts(8, 2, 0, 10)).passed


def test_review_gate_without_new_turns_passes() -> None:
    assert judge(ReviewCounts(0, 0, 0, 0), require_reviews=True).passed


@given(st.integers(0, 200), st.integers(0, 200))
def test_lower_bound_lies_below_the_rate_and_rises_with_each_accepted_turn(
    accepted: int, rejected: int
) -> None:
    counts = ReviewCounts(accepted, rejected, 0, 10_000)
    bound = accepted_lower_bound(counts, 0.95)
    assert 0 <= bound <= (accepted / counts.reviewed if counts.reviewed else 0) + 1e-12
    assert accepted_lower_bound(ReviewCounts(accepted + 1, rejected, 0, 10_000), 0.95) > bound
