"""The canary's decision."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from components.gates.canary import ArmCounts, Budget, decide, difference, median_ratio

BUDGET = Budget(error_rate_increase=0.02, accuracy_drop=0.1, ttft_ratio=2.0)
GOOD = ArmCounts(requests=1200, errors=0, answers=1200, correct=600, ttft_s=(0.05,) * 1200)
SAME = ArmCounts(requests=600, errors=0, answers=600, correct=300, ttft_s=(0.05,) * 600)


def test_decide_equal_arms_promotes_only_at_the_last_look() -> None:
    assert decide(GOOD, SAME, BUDGET, looks=9, last=True).verdict == "promoted"
    early = decide(GOOD, SAME, BUDGET, looks=9, last=False)
    assert early.verdict == "inconclusive"
    assert early.reason == "more requests to come"


def test_decide_wrong_answers_rolls_back_and_names_the_harm() -> None:
    broken = replace(SAME, requests=30, answers=30, correct=0, ttft_s=(0.05,) * 30)
    decision = decide(GOOD, broken, BUDGET, looks=9, last=False)
    assert decision.verdict == "rolled_back"
    assert "canary/accuracy" in decision.reason
    assert "canary/ttft" not in decision.reason


def test_decide_errors_roll_back() -> None:
    failing = replace(SAME, requests=30, errors=10, answers=20, correct=10, ttft_s=(0.05,) * 20)
    decision = decide(GOOD, failing, BUDGET, looks=9, last=False)
    assert decision.verdict == "rolled_back"
    assert "canary/error_rate" in decision.reason


def test_decide_slow_first_token_rolls_back() -> None:
    slow = replace(SAME, ttft_s=(0.2,) * 600)
    decision = decide(GOOD, slow, BUDGET, looks=9, last=False)
    assert decision.verdict == "rolled_back"
    assert "canary/ttft" in decision.reason


def test_decide_too_few_requests_is_inconclusive() -> None:
    few = ArmCounts(requests=8, errors=0, answers=8, correct=4, ttft_s=(0.05,) * 8)
    assert decide(GOOD, few, BUDGET, looks=9, last=True).verdict == "inconclusive"


def test_decide_no_requests_on_the_canary_is_inconclusive() -> None:
    nothing = ArmCounts(requests=0, errors=0, answers=0, correct=0, ttft_s=())
    decision = decide(GOOD, nothing, BUDGET, looks=1, last=True)
    assert decision.verdict == "inconclusive"
    assert all(not gate.passed for gate in decision.gates)


def test_decide_equal_arms_seldom_rolls_back_and_mostly_promotes() -> None:
    rng = np.random.default_rng(0)
    verdicts = [_trial(rng, drop=0.0) for _ in range(200)]
    assert verdicts.count("rolled_back") <= 4
    assert verdicts.count("promoted") >= 180


def test_decide_drop_at_the_budget_is_seldom_promoted_or_rolled_back() -> None:
    rng = np.random.default_rng(1)
    verdicts = [_trial(rng, drop=0.1) for _ in range(200)]
    assert verdicts.count("promoted") <= 20  # alpha 5%, and room for the luck of 200 draws
    assert verdicts.count("rolled_back") <= 20


def test_difference_of_equal_shares_agrees_with_wald_for_large_numbers() -> None:
    bounds = difference(5000, 10000, 5000, 10000, 0.05, 0.05)
    half = float(stats.norm.isf(0.05)) * math.sqrt(2 * 0.25 / 10000)
    assert abs(bounds.high - half) < 1e-4
    assert abs(bounds.low + half) < 1e-4


@given(st.integers(1, 300), st.integers(1, 300), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_difference_bounds_enclose_what_was_observed(
    n_a: int, n_b: int, share_a: float, share_b: float
) -> None:
    bounds = difference(round(share_a * n_a), n_a, round(share_b * n_b), n_b, 0.01, 0.05)
    assert -1 - 1e-9 <= bounds.low <= bounds.observed <= bounds.high <= 1 + 1e-9


def test_median_ratio_bounds_cover_the_truth() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        a, b = rng.exponential(1.0, 60), rng.exponential(2.0, 40)
        bounds = median_ratio(a.tolist(), b.tolist(), 0.025, 0.025)
        covered += bounds.low <= 2.0 <= bounds.high
    assert covered >= 185


def _trial(rng: np.random.Generator, *, drop: float) -> str:
    """A whole canary of the default shape: three steps, three looks each, accuracy 0.5 against 0.5 - drop."""
    stable_n = canary_n = stable_right = canary_right = 0
    for step, weight in enumerate((0.1, 0.3, 0.6)):
        for look in range(3):
            to_canary = round(200 * weight)
            canary_n, stable_n = canary_n + to_canary, stable_n + 200 - to_canary
            canary_right += int(rng.binomial(to_canary, 0.5 - drop))
            stable_right += int(rng.binomial(200 - to_canary, 0.5))
            stable = ArmCounts(stable_n, 0, stable_n, stable_right, (0.05,) * stable_n)
            canary = ArmCounts(canary_n, 0, canary_n, canary_right, (0.05,) * canary_n)
            decision = decide(stable, canary, BUDGET, looks=9, last=step == 2 and look == 2)
            if decision.verdict == "rolled_back":
                return "rolled_back"
    return decision.verdict
