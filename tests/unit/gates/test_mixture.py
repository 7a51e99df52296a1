"""Mixture gates: each sees something bad and something good."""

from __future__ import annotations

import pytest

from components.errors import GateFailed
from components.gates.mixture import (
    gain_certain,
    not_worse_than_stratified,
    predictor_validated,
    same_pool,
    valid_mixture,
)
from components.gates.result import require

CATEGORIES = ["caption", "vqa"]
FLOORS = {"caption": 0.05, "vqa": 0.05}


def test_valid_mixture_of_good_weights_passes() -> None:
    assert valid_mixture({"caption": 0.3, "vqa": 0.7}, CATEGORIES, FLOORS).passed


@pytest.mark.parametrize(
    "weights",
    [
        {"caption": 0.5, "vqa": 0.6},
        {"caption": 0.01, "vqa": 0.99},
        {"caption": float("nan"), "vqa": 0.5},
        {"vqa": 1.0},
        {"caption": 0.3, "vqa": 0.3, "digits": 0.4},
    ],
)
def test_valid_mixture_of_bad_weights_fails(weights: dict[str, float]) -> None:
    with pytest.raises(GateFailed, match="valid_mixture"):
        require(valid_mixture(weights, CATEGORIES, FLOORS), where="stage 'ablate'")


def test_predictor_validated_follows_the_rank_correlation_without_blocking() -> None:
    assert predictor_validated(0.8, 0.3, 7).passed
    failed = predictor_validated(-0.2, 0.3, 7)
    assert not failed.passed
    require(failed, where="stage 'ablate'")


def test_gain_certain_with_an_interval_over_zero_fails_without_blocking() -> None:
    assert gain_certain(0.05, 0.01, 0.09).passed
    failed = gain_certain(0.05, -0.01, 0.11)
    assert not failed.passed
    require(failed, where="stage 'ablate'")


def test_not_worse_than_stratified_with_a_worse_mixture_stops() -> None:
    assert not_worse_than_stratified(0.98, 1.0, name="optimum").passed
    assert not_worse_than_stratified(1.0, 1.0, name="stratified").passed
    with pytest.raises(GateFailed, match="not_worse_than_stratified"):
        require(not_worse_than_stratified(1.01, 1.0, name="optimum"), where="stage 'ablate'")


def test_same_pool_names_the_proxy_of_other_data() -> None:
    assert same_pool({"stratified": ["d1"], "dirichlet-2": ["d1"]}, "d1").passed
    with pytest.raises(GateFailed, match="'dirichlet-2' on d2"):
        require(same_pool({"stratified": ["d1"], "dirichlet-2": ["d2"]}, "d1"), where="stage 'ablate'")
    with pytest.raises(GateFailed, match="on none"):
        require(same_pool({"stratified": []}, "d1"), where="stage 'ablate'")


def test_gain_certain_asks_for_the_configured_least() -> None:
    assert not gain_certain(0.05, 0.01, 0.09, minimum=0.02).passed
