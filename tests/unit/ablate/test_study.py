"""Fitting finished proxy runs: on losses that follow the law, on noise, and on a flat objective."""

from __future__ import annotations

import numpy as np
import pytest

from components.ablate.simplex import rounded
from components.ablate.study import Study, rank_correlation, study_runs
from components.ablate.telling import report_of
from components.ablate.types import ProxyRun
from components.config import AblateConfig
from components.errors import ConfigError, OpsinError

CATEGORIES = ["caption", "chart", "digits", "vqa"]
SIZES = {"caption": 100, "chart": 200, "digits": 200, "vqa": 500}


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
    report = report_of(found, found.optimum)
    assert len(report["runs"]) == 10
    assert set(report["runs"][0]["predicted"]) == set(CATEGORIES)
    assert report["runs"][0]["objective"] == 1.0
    assert "gain over stratified" in report["verdict"]
    assert "stratified kept" in report_of(found, found.stratified)["verdict"]


def test_rank_correlation_of_constant_predictions_is_zero() -> None:
    assert rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([1.0, 1.0, 1.0])) == 0.0
    assert rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([1.0, 4.0, 9.0])) == pytest.approx(1.0)


def test_study_knows_baselines_whether_they_were_run_or_not() -> None:
    made = runs(0.002)
    found = study_runs(
        AblateConfig(prior={"chart": 3, "vqa": 1, "caption": 1, "digits": 1}), CATEGORIES, made, SIZES
    )
    names = [baseline.name for baseline in found.baselines]
    best = min(made, key=lambda run: float(np.mean([run.losses[c] / made[0].losses[c] for c in CATEGORIES])))
    assert names == ["stratified", "proportional", "prior", f"best run ({best.name})"]
    assert found.baselines[1].weights["vqa"] == pytest.approx(0.5, abs=1e-3)
    assert found.baselines[2].weights["chart"] == pytest.approx(0.5, abs=1e-3)
    told = {row["name"]: row["observed_objective"] for row in report_of(found, found.optimum)["baselines"]}
    assert told["stratified"] == 1.0
    assert told["proportional"] is None  # nobody ran it


def test_study_by_the_worst_case_lifts_the_worst_target() -> None:
    mean, worst = study(runs(0.001)), study(runs(0.001), objective_by="worst")
    relative = [each.losses(each.optimum) / each.objective.reference_K for each in (mean, worst)]
    assert relative[1].max() < relative[0].max()
    assert worst.predicted(worst.optimum) == pytest.approx(relative[1].max())


def test_study_with_floors_and_ceilings_keeps_them() -> None:
    found = study(runs(0.002), floors={"vqa": 0.3}, ceilings={"chart": 0.35})
    assert found.optimum.weights["vqa"] >= 0.3 - 1e-4
    assert 0.25 < found.optimum.weights["chart"] <= 0.35 + 1e-4


def test_study_of_errors_asks_for_their_metric() -> None:
    made = [
        ProxyRun(run.name, run.weights, run.losses | {"error/vqa": 1 - run.weights["vqa"] / 2})
        for run in runs(0.001)
    ]
    found = study(made, objective={"error/vqa": 1.0})
    assert found.objective.targets == (*CATEGORIES, "error/vqa")
    assert max(found.optimum.weights, key=lambda name: found.optimum.weights[name]) == "vqa"


def test_regret_is_small_where_runs_tell_and_larger_where_they_do_not() -> None:
    sure, unsure = study(runs(0.001)), study(runs(0.1))
    assert 0 <= sure.regret < unsure.regret


def test_regret_curve_ends_at_all_runs_with_none() -> None:
    curve = report_of(study(runs(0.002)), study(runs(0.002)).optimum)["regret_curve"]
    assert [point["runs"] for point in curve] == list(range(4, 11))
    assert curve[-1]["regret"] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("predictor", ["log_linear", "linear", "substitution", "gaussian", "lightgbm"])
def test_every_predictor_gives_a_whole_study(predictor: str) -> None:
    found = study(runs(0.01), predictor=predictor, bootstrap=100)
    assert found.predictor_name == predictor
    assert sum(found.optimum.weights.values()) == pytest.approx(1)
    assert found.gain.low <= found.gain.high
