"""Predictors of a mixture's losses, behind one interface, and the choice among them.

observed = Observed(weights_NC, log_NK, own_K)
name = choose(observed)                    # by cross-validation on these runs, nothing else
logs_MK = fit(name, observed).log_losses(at_MC)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, get_args

import numpy as np

from components.ablate.predictors.base import Observed, Predictor
from components.ablate.predictors.gaussian import Gaussian
from components.ablate.predictors.ridge import linear, log_linear
from components.ablate.predictors.substitution import Substitution
from components.ablate.types import Matrix, Vector
from components.config import PredictorName
from components.errors import ConfigError

__all__ = ["PREDICTORS", "Gaussian", "Observed", "Predictor", "choose", "cross_validate", "errors_of", "fit"]

FOLDS: Final = 16
"""Of the cross-validation; with fewer runs each is left out by itself."""


def _boosted(observed: Observed) -> Predictor:
    try:
        from components.ablate.predictors.boosted import Boosted  # lightgbm loads its library at import
    except OSError as problem:
        raise ConfigError(
            f"LightGBM cannot be loaded: {problem}",
            where="ablate.predictor",
            fix="install the OpenMP runtime (Debian: apt-get install libgomp1), or take another predictor",
        ) from problem
    return Boosted(observed)


PREDICTORS: Final[Mapping[PredictorName, Callable[[Observed], Predictor]]] = {
    "log_linear": log_linear,
    "substitution": Substitution,
    "gaussian": Gaussian,
    "linear": linear,
    "lightgbm": _boosted,
}
CHOOSABLE: Final[tuple[PredictorName, ...]] = ("substitution", "log_linear")
"""What `auto` chooses among: both are quick to fit again. The first predicted best on RegMix's runs for
fitting, from 16 runs on."""
assert set(PREDICTORS) == set(get_args(PredictorName))


def fit(name: PredictorName, observed: Observed) -> Predictor:
    """The predictor `name`, fitted."""
    return PREDICTORS[name](observed)


def cross_validate(name: PredictorName, observed: Observed) -> Matrix:
    """Log losses of each run as predicted from the others (from 17 runs on in 16 folds), shape (N, K)."""
    runs = len(observed)
    fold_N = np.arange(runs) % min(runs, FOLDS)
    predicted_NK = np.empty_like(observed.log_NK)
    for fold in range(int(fold_N.max()) + 1):
        left_out_N = fold_N == fold
        fitted = fit(name, observed.only(~left_out_N))
        predicted_NK[left_out_N] = fitted.log_losses(observed.weights_NC[left_out_N])
    return predicted_NK


def errors_of(held_out_NK: Matrix, observed: Observed) -> Vector:
    """Squared error of each run's held-out log losses, relative to the targets' variance, mean over targets:
    a mean of 1 is as good as a constant. Shape (N,)."""
    variance_K = observed.log_NK.var(axis=0) + 1e-12
    errors: Vector = ((held_out_NK - observed.log_NK) ** 2 / variance_K).mean(axis=1)
    return errors


def choose(observed: Observed, names: Sequence[PredictorName] = CHOOSABLE) -> PredictorName:
    """The first of `names`, unless another's cross-validated error on these runs is less by more than the
    standard error of the difference: a handful of runs must not overthrow on one run's word."""
    first, *others = names
    errors = {name: errors_of(cross_validate(name, observed), observed) for name in names}
    better = []
    for name in others:
        difference_N = errors[first] - errors[name]
        if difference_N.mean() > difference_N.std(ddof=1) / np.sqrt(len(observed)):
            better.append(name)
    return min(better, key=lambda name: float(errors[name].mean()), default=first)
