"""Everything known after the proxy runs: the fit, its validation, the optimum and the gain; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from scipy import stats

from components.ablate.design import DISTINCT, PRIOR, PROPORTIONAL, STRATIFIED, prior_of
from components.ablate.objective import Objective, objective_of, owner
from components.ablate.predictors import Observed, Predictor, choose, cross_validate, fit
from components.ablate.search import best_mixture, pool_within
from components.ablate.simplex import Bounds, bounds_of, rounded
from components.ablate.types import Candidate, Gain, Matrix, ProxyRun, Vector
from components.config import AblateConfig, PredictorName
from components.errors import OpsinError

SLOW: Final = ("lightgbm",)
"""Predictors that are trained again for each resample."""
SLOW_RESAMPLES: Final = 40
RIVALS: Final = 256
"""Mixtures that the optimum's regret is taken against."""


@dataclass(frozen=True)
class Study:
    """Everything known after the proxy runs."""

    config: AblateConfig
    categories: list[str]
    runs: list[ProxyRun]
    objective: Objective
    bounds: Bounds
    """What the search kept to: the config's, narrowed to what the runs explored."""
    observed: Observed
    predictor_name: PredictorName
    predictor: Predictor = field(repr=False)
    held_out_NK: Matrix
    """Losses as predicted from other runs."""
    rank_correlation: float
    baselines: tuple[Candidate, ...]
    optimum: Candidate
    gain: Gain
    regret: float
    """How much worse than the best mixture the optimum is expected to be, relative: over resamples."""

    @property
    def stratified(self) -> Candidate:
        return self.baselines[0]

    @property
    def losses_NK(self) -> Matrix:
        return np.asarray(np.exp(self.observed.log_NK))

    def losses(self, mixture: Candidate) -> Vector:
        """Predicted targets of a mixture."""
        weights = np.array([[mixture.weights[name] for name in self.categories]])
        return np.asarray(np.exp(self.predictor.log_losses(weights))[0])

    def predicted(self, mixture: Candidate) -> float:
        """Predicted objective of a mixture (1 is about as good as the stratified run)."""
        return float(self.objective(self.losses(mixture)[None])[0])

    def run_of(self, mixture: Candidate) -> ProxyRun | None:
        """The proxy run on just this mixture."""
        return next((run for run in self.runs if run.weights == mixture.weights), None)


def study_runs(
    config: AblateConfig, categories: list[str], runs: list[ProxyRun], sizes: Mapping[str, int] | None = None
) -> Study:
    """Fit the runs, predict each from others, and find the optimum; pure.

    Args:
        sizes: Training samples per category; with them the mixture proportional to size is among the
            baselines even where it was not run.

    Raises:
        OpsinError: no run is on the stratified mixture.
        ConfigError: `objective` names what is no target, or bounds what is no category.
    """
    stratified = stratified_of(runs)
    objective = objective_of(config, categories, stratified)
    observed = as_observed(runs, categories, objective.targets)
    name = choose(observed) if config.predictor == "auto" else config.predictor
    held_out = np.exp(cross_validate(name, observed))
    predictor = fit(name, observed)
    allowed = bounds_of(config, categories)
    bounds = allowed.within(observed.weights_NC)
    best = rounded(best_mixture(predictor, objective, bounds, observed.weights_NC, seed=config.seed))
    residual = observed.log_NK - np.log(held_out)
    resamples = _Resamples(config, name, observed, predictor, residual)
    two = np.array([best, [stratified.weights[each] for each in categories]])
    rivals = pool_within(bounds, config.seed)[:RIVALS]
    value_BM = resamples.objective_of(objective, np.concatenate([two, rivals]))
    tail = (1 - config.confidence) / 2
    low, high = np.quantile(1 - value_BM[:, 0] / value_BM[:, 1], [tail, 1 - tail])
    at_two = objective(np.exp(predictor.log_losses(two)))
    observed_value, held_out_value = objective(np.exp(observed.log_NK)), objective(held_out)
    return Study(
        config=config,
        categories=categories,
        runs=runs,
        objective=objective,
        bounds=bounds,
        observed=observed,
        predictor_name=name,
        predictor=predictor,
        held_out_NK=held_out,
        rank_correlation=rank_correlation(observed_value, held_out_value),
        baselines=tuple(_baselines(config, categories, runs, observed_value, allowed, sizes)),
        optimum=Candidate("optimum", dict(zip(categories, best, strict=True))),
        gain=Gain(float(1 - at_two[0] / at_two[1]), float(low), float(high)),
        regret=float((value_BM[:, 0] / value_BM.min(axis=1) - 1).mean()),
    )


def stratified_of(runs: Sequence[ProxyRun]) -> ProxyRun:
    """The run that every other is compared with.

    Raises:
        OpsinError: there is none.
    """
    stratified = next((run for run in runs if run.name == STRATIFIED), None)
    if stratified is None:
        raise OpsinError(
            "no proxy run is on the stratified mixture, which is what every other is compared with",
            fix="hand over a proxy for every candidate of components.ablate.design",
        )
    return stratified


def shortlist_of(study: Study) -> list[Candidate]:
    """The predicted optimum, then the runs with the best objective, without repeating a mixture."""
    ranked = np.argsort(study.objective(study.losses_NK), kind="stable")
    chosen = [study.optimum]
    for run in [study.runs[index] for index in ranked]:
        apart = all(
            max(abs(run.weights[name] - other.weights[name]) for name in study.categories) > DISTINCT
            for other in chosen
        )
        if apart and run.name != STRATIFIED:
            chosen.append(Candidate(run.name, run.weights))
    return chosen[: study.config.shortlist]


def as_observed(runs: Sequence[ProxyRun], categories: Sequence[str], targets: Sequence[str]) -> Observed:
    """Weights (N, C) and log losses (N, K) of the runs, in the order of `categories` and `targets`."""
    weights = np.array([[run.weights[name] for name in categories] for run in runs], dtype=np.float64)
    losses = np.array([[run.losses[name] for name in targets] for run in runs], dtype=np.float64)
    own = np.array([list(categories).index(owner(name)) for name in targets])
    return Observed(weights, np.log(losses), own)


def rank_correlation(observed: Vector, predicted: Vector) -> float:
    """Spearman correlation; 0 when either side does not vary (nothing is ranked)."""
    if np.ptp(observed) < 1e-12 or np.ptp(predicted) < 1e-12:
        return 0.0
    return float(stats.spearmanr(observed, predicted).statistic)


@dataclass(frozen=True)
class _Resamples:
    """Wild bootstrap: each resample multiplies every run's held-out residual (larger, and honester, than the
    fitted one) by a standard normal number, the same for all its targets, and fits again."""

    config: AblateConfig
    name: PredictorName
    observed: Observed
    predictor: Predictor
    residual_NK: Matrix

    def objective_of(self, objective: Objective, at_MC: Matrix) -> Matrix:
        """The objective of mixtures in every resample, shape (B, M)."""
        count = SLOW_RESAMPLES if self.name in SLOW else self.config.bootstrap
        noise_BN = np.random.default_rng(self.config.seed).standard_normal((count, len(self.observed)))
        fitted_NK = self.predictor.log_losses(self.observed.weights_NC)
        target_BNK = fitted_NK + noise_BN[:, :, None] * self.residual_NK
        losses_BMK = np.exp(self.predictor.resampled(at_MC, target_BNK))
        return np.stack([objective(losses_MK) for losses_MK in losses_BMK])


def _baselines(
    config: AblateConfig,
    categories: list[str],
    runs: list[ProxyRun],
    value_N: Vector,
    bounds: Bounds,
    sizes: Mapping[str, int] | None,
) -> list[Candidate]:
    """Stratified, proportional to size, the prior and the best run: always in the table."""
    ran = {run.name: run.weights for run in runs}
    proportional = np.array([(sizes or dict.fromkeys(categories, 1))[name] for name in categories], float)
    found = [Candidate(STRATIFIED, ran[STRATIFIED])]
    for name, weights in (
        (PROPORTIONAL, proportional / proportional.sum()),
        (PRIOR, prior_of(config, categories)),
    ):
        kept = dict(zip(categories, rounded(bounds.keep(weights)), strict=True))
        found.append(Candidate(name, ran.get(name, kept)))
    best = runs[int(value_N.argmin())]
    return [*found, Candidate(f"best run ({best.name})", best.weights)]
