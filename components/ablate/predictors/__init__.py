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
from components.ablate.types import Matrix
from components.config import PredictorName
from components.errors import ConfigError

__all__ = ["PREDICTORS", "Gaussian", "Observed", "Predictor", "choose", "cross_validate", "error_of", "fit"]

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
CHOOSABLE: Final[tuple[PredictorName, ...]] = ("log_linear", "substitution")
"""What `auto` chooses among: quick to fit again, and each was best somewhere. The first wins a tie."""
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


def error_of(held_out_NK: Matrix, observed: Observed) -> float:
    """Mean over targets of the squared error of held-out log losses, relative to their variance: 1 is as good
    as a constant."""
    variance_K = observed.log_NK.var(axis=0) + 1e-12
    return float((((held_out_NK - observed.log_NK) ** 2).mean(axis=0) / variance_K).mean())


def choose(observed: Observed, names: Sequence[PredictorName] = CHOOSABLE) -> PredictorName:
    """The predictor with the least cross-validated error on these runs."""
    return min(names, key=lambda name: error_of(cross_validate(name, observed), observed))
