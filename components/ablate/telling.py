"""What a person reads of a study: runs, baselines, the choice and why, what the plots draw; JSON values."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from components.ablate.predictors import fit
from components.ablate.search import best_mixture
from components.ablate.study import Study
from components.ablate.types import Candidate, Vector

FIRST_RUNS: Final = 4
"""Fewest runs that the curve of regret begins with."""
RESPONSE_POINTS: Final = 21


def report_of(study: Study, chosen: Candidate) -> dict[str, Any]:
    """Runs with observed and held-out predicted losses, baselines, the choice, and why; JSON values."""
    observed, held_out = study.objective(study.losses_NK), study.objective(study.held_out_NK)
    return {
        "categories": study.categories,
        "targets": list(study.objective.targets),
        "objective": _named(study, study.objective.importance_K),
        "objective_by": study.objective.by,
        "predictor": study.predictor_name,
        "runs": [
            {
                "name": run.name,
                "weights": run.weights,
                "losses": _named(study, study.losses_NK[index]),
                "predicted": _named(study, study.held_out_NK[index]),
                "objective": _short(observed[index]),
                "predicted_objective": _short(held_out[index]),
            }
            for index, run in enumerate(study.runs)
        ],
        "rank_correlation": _short(study.rank_correlation),
        "min_rank_correlation": study.config.min_rank_correlation,
        "stratified": _mixture(study, study.stratified),
        "baselines": [_mixture(study, baseline) for baseline in study.baselines],
        "optimum": _mixture(study, study.optimum),
        "chosen": _mixture(study, chosen),
        "gain": {name: _short(getattr(study.gain, name)) for name in ("value", "low", "high")},
        "regret": _short(study.regret),
        "regret_curve": regret_curve(study),
        "responses": _responses(study),
        "verdict": _verdict(study, chosen),
    }


def _mixture(study: Study, mixture: Candidate) -> dict[str, Any]:
    run = study.run_of(mixture)
    objective = None
    if run is not None:
        objective = study.objective(np.array([[run.losses[name] for name in study.objective.targets]]))[0]
    return {
        "name": mixture.name,
        "weights": mixture.weights,
        "predicted": _named(study, study.losses(mixture)),
        "predicted_objective": _short(study.predicted(mixture)),
        "observed_objective": None if objective is None else _short(objective),
    }


def _responses(study: Study) -> dict[str, list[dict[str, float]]]:
    """Category → the predicted objective as its weight goes through what was explored, the others giving way
    in proportion from the optimum."""
    start = np.array([study.optimum.weights[name] for name in study.categories])
    curves = {}
    for index, name in enumerate(study.categories):
        points = []
        for weight in np.linspace(study.bounds.low_C[index], study.bounds.high_C[index], RESPONSE_POINTS):
            mixture = start * (1 - weight) / max(1 - start[index], 1e-9)
            mixture[index] = weight
            value = study.objective(np.exp(study.predictor.log_losses(mixture[None])))[0]
            points.append({"weight": _short(weight), "objective": _short(value)})
        curves[name] = points
    return curves


def _verdict(study: Study, chosen: Candidate) -> str:
    gain = f"{study.gain.value:+.1%} [{study.gain.low:+.1%}, {study.gain.high:+.1%}]"
    ranks = f"cross-validated rank correlation {study.rank_correlation:+.2f} over {len(study.runs)} runs"
    if chosen is not study.stratified:
        return f"the predicted optimum: gain over stratified {gain}, {ranks}"
    if study.rank_correlation < study.config.min_rank_correlation:
        return f"stratified kept: {ranks} is below {study.config.min_rank_correlation:+.2f}"
    return f"stratified kept: the predicted gain {gain} may be none ({ranks})"


def _named(study: Study, values: Vector) -> dict[str, float]:
    return {name: _short(value) for name, value in zip(study.objective.targets, values, strict=True)}


def _short(value: float) -> float:
    return round(float(value), 6)


def regret_curve(study: Study) -> list[dict[str, float]]:
    """By how much the optimum found from the first n runs is worse than the one from all, as all predict it.

    The predictor is the study's; a point says nothing of runs that come after all.
    """
    best = study.predicted(study.optimum)
    points = []
    for count in range(FIRST_RUNS, len(study.runs) + 1):
        first = study.observed.only(np.arange(len(study.runs)) < count)
        weights = best_mixture(
            fit(study.predictor_name, first),
            study.objective,
            study.bounds.within(first.weights_NC),
            first.weights_NC,
            seed=study.config.seed,
        )
        found = Candidate("", dict(zip(study.categories, weights.tolist(), strict=True)))
        points.append({"runs": float(count), "regret": max(0.0, study.predicted(found) / best - 1)})
    return points
