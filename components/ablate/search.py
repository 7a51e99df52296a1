"""From a fitted predictor to mixtures: the one predicted best, and the next one worth a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from scipy import optimize

from components.ablate.objective import Objective
from components.ablate.predictors import Gaussian, Observed, Predictor
from components.ablate.simplex import Bounds, spread_out
from components.ablate.types import Matrix, Vector

POOL_LOG2: Final = 11
POLISHED: Final = 4
"""Best mixtures of the pool that descent starts from."""
STEP: Final = 1e-6
CONFIDENCE_BOUND: Final = 2.0
"""Standard deviations below the mean that the acquisition believes in."""


def pool_within(bounds: Bounds, seed: int) -> Matrix:
    """Mixtures all over what the bounds allow."""
    count = len(bounds.low_C)
    middle = bounds.keep(np.full(count, 1 / count))
    return spread_out(middle, bounds, concentration=1.0, log2=POOL_LOG2, seed=seed)


def best_mixture(
    predictor: Predictor, objective: Objective, bounds: Bounds, tried_NC: Matrix, *, seed: int
) -> Vector:
    """The mixture with the least predicted objective within the bounds.

    The best of a pool and of the runs, each improved by descent (SLSQP) where that finds better.
    """

    def value(at_MC: Matrix) -> Vector:
        return objective(np.exp(predictor.log_losses(at_MC)))

    return minimize(value, bounds, tried_NC, seed=seed)


def next_mixture(observed: Observed, objective: Objective, bounds: Bounds, *, seed: int) -> Vector:
    """The mixture that a Gaussian process would run next: the least confidence bound of its objective.

    Of what is promising and of what is unknown, it is the most of both (upper-confidence acquisition,
    Srinivas et al. 2010, turned over since a loss is to be low).
    """
    process = Gaussian(observed)

    def bound(at_MC: Matrix) -> Vector:
        logs_MK, spread_MK = process.log_losses(at_MC), process.spread(at_MC)
        return objective(np.exp(logs_MK - CONFIDENCE_BOUND * spread_MK))

    return minimize(bound, bounds, observed.weights_NC, seed=seed)


def minimize(value: Callable[[Matrix], Vector], bounds: Bounds, tried_NC: Matrix, *, seed: int) -> Vector:
    """The least of `value` over mixtures within the bounds."""
    pool_MC = np.concatenate([np.stack([bounds.keep(row) for row in tried_NC]), pool_within(bounds, seed)])
    value_M = value(pool_MC)
    starts = np.argsort(value_M, kind="stable")[:POLISHED]
    best, least = pool_MC[starts[0]], float(value_M[starts[0]])
    for start in starts:
        found = _descend(value, pool_MC[start], bounds)
        if value(found[None])[0] < least - 1e-12:
            best, least = found, float(value(found[None])[0])
    return np.asarray(best)


def _descend(value: Callable[[Matrix], Vector], start_C: Vector, bounds: Bounds) -> Vector:
    """SLSQP on the simplex, slopes by differences (all in one call)."""

    def one(w: Vector) -> float:
        return float(value(np.maximum(w, 0)[None])[0])

    def slope(w: Vector) -> Vector:
        around = np.maximum(np.concatenate([w[None], w + STEP * np.eye(len(w))]), 0)
        values = value(around)
        slopes: Vector = (values[1:] - values[0]) / STEP
        return slopes

    found = optimize.minimize(
        one,
        start_C,
        jac=slope,
        method="SLSQP",
        bounds=list(zip(bounds.low_C, bounds.high_C, strict=True)),
        constraints=[{"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like}],
        options={"ftol": 1e-10, "maxiter": 200},
    )
    return bounds.keep(np.asarray(found.x))
