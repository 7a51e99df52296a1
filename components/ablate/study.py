"""Everything known after the proxy runs: the fit, its validation, the optimum and the gain; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from components.ablate.design import rounded
from components.ablate.predictor import (
    Objective,
    as_arrays,
    best_mixture,
    fit,
    leave_one_out,
    predicted_gain,
    rank_correlation,
)
from components.ablate.types import Candidate, Gain, Matrix, ProxyRun, Vector
from components.config import AblateConfig
from components.errors import ConfigError, OpsinError

STRATIFIED: Final = "stratified"


@dataclass(frozen=True)
class Study:
    """Everything known after the proxy runs; `report` is what a person reads."""

    config: AblateConfig
    categories: list[str]
    runs: list[ProxyRun]
    objective: Objective
    weights_NC: Matrix
    losses_NK: Matrix
    held_out_NK: Matrix
    """Losses as predicted from the other runs."""
    rank_correlation: float
    stratified: Candidate
    optimum: Candidate
    gain: Gain

    def predicted(self, mixture: Candidate) -> float:
        """Predicted objective of a mixture (1 is about as good as the stratified run)."""
        return float(self.objective(self._losses(mixture))[0])

    def _losses(self, mixture: Candidate) -> Matrix:
        weights = np.array([[mixture.weights[name] for name in self.categories]])
        return fit(self.weights_NC, self.losses_NK).losses(weights)

    def report(self, chosen: Candidate) -> dict[str, Any]:
        """Runs with observed and held-out predicted losses, the choice, and why; JSON values."""
        observed, held_out = self.objective(self.losses_NK), self.objective(self.held_out_NK)
        return {
            "categories": self.categories,
            "objective": self._named(self.objective.importance_K),
            "runs": [
                {
                    "name": run.name,
                    "weights": run.weights,
                    "losses": self._named(self.losses_NK[index]),
                    "predicted": self._named(self.held_out_NK[index]),
                    "objective": _short(observed[index]),
                    "predicted_objective": _short(held_out[index]),
                }
                for index, run in enumerate(self.runs)
            ],
            "rank_correlation": _short(self.rank_correlation),
            "min_rank_correlation": self.config.min_rank_correlation,
            "stratified": self._mixture(self.stratified),
            "optimum": self._mixture(self.optimum),
            "chosen": self._mixture(chosen),
            "gain": {name: _short(getattr(self.gain, name)) for name in ("value", "low", "high")},
            "verdict": self._verdict(chosen),
        }

    def _mixture(self, mixture: Candidate) -> dict[str, Any]:
        return {
            "name": mixture.name,
            "weights": mixture.weights,
            "predicted": self._named(self._losses(mixture)[0]),
            "predicted_objective": _short(self.predicted(mixture)),
        }

    def _verdict(self, chosen: Candidate) -> str:
        gain = f"{self.gain.value:+.1%} [{self.gain.low:+.1%}, {self.gain.high:+.1%}]"
        ranks = f"leave-one-out rank correlation {self.rank_correlation:+.2f} over {len(self.runs)} runs"
        if chosen is not self.stratified:
            return f"the predicted optimum: gain over stratified {gain}, {ranks}"
        if self.rank_correlation < self.config.min_rank_correlation:
            return f"stratified kept: {ranks} is below {self.config.min_rank_correlation:+.2f}"
        return f"stratified kept: the predicted gain {gain} may be none ({ranks})"

    def _named(self, values: Vector) -> dict[str, float]:
        return {name: _short(value) for name, value in zip(self.categories, values, strict=True)}


def study_runs(config: AblateConfig, categories: list[str], runs: list[ProxyRun]) -> Study:
    """Fit the runs, predict each from the others, and find the optimum; pure.

    Raises:
        OpsinError: no run is on the stratified mixture.
        ConfigError: `objective` names an unknown category.
    """
    weights, losses = as_arrays(runs, categories)
    stratified = next((run for run in runs if run.name == STRATIFIED), None)
    if stratified is None:
        raise OpsinError(
            "no proxy run is on the stratified mixture, which is what every other is compared with",
            fix="hand over a proxy for every candidate of components.ablate.design",
        )
    objective = Objective(
        _importance(config, categories), np.array([stratified.losses[name] for name in categories])
    )
    held_out = leave_one_out(weights, losses)
    best = rounded(best_mixture(fit(weights, losses), objective, weights, config.min_share))
    return Study(
        config=config,
        categories=categories,
        runs=runs,
        objective=objective,
        weights_NC=weights,
        losses_NK=losses,
        held_out_NK=held_out,
        rank_correlation=rank_correlation(objective(losses), objective(held_out)),
        stratified=Candidate(STRATIFIED, stratified.weights),
        optimum=Candidate("optimum", dict(zip(categories, best, strict=True))),
        gain=predicted_gain(
            weights,
            losses,
            np.array(best),
            np.array([stratified.weights[name] for name in categories]),
            objective,
            resamples=config.bootstrap,
            confidence=config.confidence,
            seed=config.seed,
        ),
    )


def _importance(config: AblateConfig, categories: list[str]) -> Vector:
    unknown = sorted(set(config.objective) - set(categories))
    if unknown:
        raise ConfigError(
            f"ablate.objective names categories that the dataset does not have: {', '.join(unknown)}",
            where="ablate.objective",
            fix=f"categories here: {', '.join(categories)}",
        )
    wanted = config.objective or dict.fromkeys(categories, 1.0)
    weights = np.array([wanted.get(name, 0.0) for name in categories])
    if (weights < 0).any() or weights.sum() <= 0:
        raise ConfigError(
            "weights of an objective must not be negative, and one must be positive",
            where="ablate.objective",
            fix="give each category that matters a positive weight",
        )
    importance: Vector = weights / weights.sum()
    return importance


def _short(value: float) -> float:
    return round(float(value), 6)
