"""The predictors: exact on losses that follow their law, and honest about runs they have not seen."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from components.ablate.predictors import (
    PREDICTORS,
    Gaussian,
    Observed,
    choose,
    cross_validate,
    errors_of,
    fit,
)
from components.config import PredictorName

CATEGORIES, RUNS = 5, 14
OWN = np.arange(CATEGORIES)


def mixtures(count: int, seed: int) -> np.ndarray:  # type: ignore[type-arg]
    return np.random.default_rng(seed).dirichlet(np.full(CATEGORIES, 1.5), count)


def by_substitution(weights: np.ndarray, noise: float = 0.0) -> np.ndarray:  # type: ignore[type-arg]
    """Log losses that follow the law of substitution."""
    random = np.random.default_rng(3)
    worth = np.exp(random.normal(-2.5, 1.0, (CATEGORIES, CATEGORIES)))
    np.fill_diagonal(worth, 1.0)
    logs = 1.0 - 0.2 * np.log(weights**0.6 @ worth.T)
    return logs + noise * random.standard_normal(logs.shape)


def by_line(weights: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    """Log losses that are linear in the weights."""
    return 1.0 - weights @ np.random.default_rng(4).uniform(0, 0.5, (CATEGORIES, CATEGORIES))


def observed(law: object = by_substitution, **settings: float) -> Observed:
    weights = mixtures(RUNS, 1)
    return Observed(weights, law(weights, **settings), OWN)  # type: ignore[operator]


def test_substitution_ranks_mixtures_it_has_not_seen_by_its_law() -> None:
    fitted, unseen = fit("substitution", observed(noise=0.002)), mixtures(300, 2)
    predicted, true = fitted.log_losses(unseen), by_substitution(unseen)
    ranks = [stats.spearmanr(predicted[:, k], true[:, k]).statistic for k in range(CATEGORIES)]
    assert min(ranks) > 0.95
    assert np.abs(predicted - true).mean() < 0.01


def test_substitution_without_an_own_category_still_predicts() -> None:
    seen, unseen = observed(noise=0.002), mixtures(300, 2)
    fitted = fit("substitution", Observed(seen.weights_NC, seen.log_NK, np.full(CATEGORIES, -1)))
    assert np.abs(fitted.log_losses(unseen) - by_substitution(unseen)).mean() < 0.03


def test_substitution_of_a_category_that_was_left_out_is_finite() -> None:
    weights = mixtures(RUNS, 1)
    weights[::2, 0] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    fitted = fit("substitution", Observed(weights, by_line(weights), OWN))
    assert np.isfinite(fitted.log_losses(np.eye(CATEGORIES))).all()


def test_choose_takes_the_law_that_the_runs_follow() -> None:
    assert choose(observed(by_substitution)) == "substitution"
    assert choose(observed(by_line)) == "log_linear"


@pytest.mark.parametrize("name", sorted(set(PREDICTORS) - {"lightgbm"}))  # which trains half a minute
def test_cross_validation_never_sees_the_run_it_predicts(name: PredictorName) -> None:
    seen = observed(noise=0.002)
    before = cross_validate(name, seen)[3]
    seen.log_NK[3] += 2
    assert cross_validate(name, seen)[3] == pytest.approx(before)


@pytest.mark.parametrize("name", ["log_linear", "linear", "substitution", "gaussian"])
def test_resampled_with_the_runs_themselves_is_the_prediction(name: PredictorName) -> None:
    seen, unseen = observed(noise=0.01), mixtures(7, 2)
    fitted = fit(name, seen)
    if name == "substitution":  # to first order around the fit, not around the runs
        again = fitted.resampled(unseen, fitted.log_losses(seen.weights_NC)[None])[0]
        assert again == pytest.approx(fitted.log_losses(unseen), abs=1e-9)
    else:
        again = fitted.resampled(unseen, seen.log_NK[None])[0]
        assert again == pytest.approx(fitted.log_losses(unseen), abs=1e-6)


@pytest.mark.parametrize("name", ["log_linear", "substitution", "gaussian"])
def test_resampled_follows_what_the_runs_would_have_said(name: PredictorName) -> None:
    seen, unseen = observed(noise=0.002), mixtures(7, 2)
    fitted = fit(name, seen)
    raised = fitted.resampled(unseen, (seen.log_NK + 0.05)[None])[0]
    assert raised - fitted.log_losses(unseen) == pytest.approx(np.full((7, CATEGORIES), 0.05), abs=0.01)


def test_gaussian_is_surer_where_runs_are() -> None:
    seen = observed(noise=0.002)
    process = Gaussian(seen)
    near, far = process.spread(seen.weights_NC), process.spread(np.eye(CATEGORIES))
    assert near.mean() < far.mean()


def test_errors_of_a_constant_are_one_on_average() -> None:
    seen = observed()
    constant = np.broadcast_to(seen.log_NK.mean(axis=0), seen.log_NK.shape)
    assert errors_of(np.asarray(constant), seen).mean() == pytest.approx(1)
