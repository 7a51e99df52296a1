"""Fitting finished proxy runs: on losses that follow the law, on noise, and on a flat objective."""

from __future__ import annotations

import numpy as np
import pytest

from components.ablate.design import rounded
from components.ablate.predictor import fit, leave_one_out, rank_correlation
from components.ablate.study import Study, study_runs
from components.ablate.types import ProxyRun
from components.config import AblateConfig
from components.errors import ConfigError, OpsinError

CATEGORIES = ["caption", "chart", "digits", "vqa"]


def runs(
    noise: float, *, slopes: tuple[float, ...] = (-0.3, -2.0, -0.4, -0.3), count: int = 10
) -> list[ProxyRun]:
    """Losses log-linear in the own weight; `chart` rewards weight most."""
    random = np.random.default_rng(5)
    mixtures = [np.full(4, 0.25), *random.dirichlet(np.full(4, 2.0), count - 1)]
    made = []
    for index, weights in enumerate(mixtures):
        weights = np.array(rounded(0.05 + 0.8 * weights))
        log_losses = np.log([3.0, 2.0, 1.0, 0.5]) + np.array(slopes) * weights
        log_losses += noise * random.standard_normal(4)
        made.append(
            ProxyRun(
                "stratified" if index == 0 else f"dirichlet-{index}",
                dict(zip(CATEGORIES, weights.tolist(), strict=True)),
                dict(zip(CATEGORIES, np.exp(log_losses).tolist(), strict=True)),
            )
        )
    return made


def study(made: list[ProxyRun], **fields: object) -> Study:
    return study_runs(AblateConfig.model_validate(fields), CATEGORIES, made)


def test_study_of_lawful_losses_finds_the_category_that_pays() -> None:
    made = runs(0.002)
    found = study(made)
    assert found.rank_correlation > 0.8
    assert found.gain.low > 0
    tried = max(run.weights["chart"] for run in made)
    assert found.optimum.weights["chart"] == pytest.approx(tried, abs=5e-4)  # all that was explored
    assert found.predicted(found.optimum) < found.predicted(found.stratified)


def test_study_of_a_real_gain_predicts_about_its_size() -> None:
    found = study(runs(0.002))
    weights = np.array([found.optimum.weights[name] for name in CATEGORIES])
    slopes = np.array([-0.3, -2.0, -0.4, -0.3])
    relative = 1 - np.mean(np.exp(slopes * (weights - 0.25)))
    assert found.gain.low <= relative <= found.gain.high or found.gain.value == pytest.approx(
        relative, abs=0.02
    )


def test_study_of_pure_noise_is_not_sure_of_a_gain() -> None:
    found = study(runs(0.3, slopes=(0.0, 0.0, 0.0, 0.0)))
    assert found.gain.low <= 0 or found.rank_correlation < 0.3


def test_study_stays_in_the_explored_range_and_above_floors() -> None:
    made = runs(0.01)
    found = study(made)
    for name, weight in found.optimum.weights.items():
        tried = [run.weights[name] for run in made]
        assert max(min(tried), 0.05) - 1e-4 <= weight <= max(tried) + 4e-4


def test_study_with_an_objective_follows_it() -> None:
    chart = study(runs(0.002), objective={"chart": 1.0})
    caption = study(runs(0.002), objective={"caption": 1.0})
    assert chart.optimum.weights["chart"] > caption.optimum.weights["chart"]


def test_study_with_an_unknown_category_in_the_objective_is_refused() -> None:
    with pytest.raises(ConfigError, match="charts"):
        study(runs(0.01), objective={"charts": 1.0})


def test_study_without_a_stratified_run_is_refused() -> None:
    with pytest.raises(OpsinError, match="stratified"):
        study(runs(0.01)[1:])


def test_report_holds_held_out_predictions_and_says_why() -> None:
    found = study(runs(0.002))
    report = found.report(found.optimum)
    assert len(report["runs"]) == 10
    assert set(report["runs"][0]["predicted"]) == set(CATEGORIES)
    assert report["runs"][0]["objective"] == 1.0
    assert "gain over stratified" in report["verdict"]
    assert "stratified kept" in found.report(found.stratified)["verdict"]


def test_leave_one_out_never_sees_the_run_it_predicts() -> None:
    made = runs(0.01)
    weights = np.array([[run.weights[name] for name in CATEGORIES] for run in made])
    losses = np.array([[run.losses[name] for name in CATEGORIES] for run in made])
    before = leave_one_out(weights, losses)[3]
    losses[3] *= 100
    assert leave_one_out(weights, losses)[3] == pytest.approx(before)
    assert fit(weights, losses).losses(weights)[3] != pytest.approx(before)


def test_rank_correlation_of_constant_predictions_is_zero() -> None:
    assert rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([1.0, 1.0, 1.0])) == 0.0
    assert rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([1.0, 4.0, 9.0])) == pytest.approx(1.0)
