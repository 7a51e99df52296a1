"""Linear models of the weights: of the losses themselves, or of their logarithms.

`log_linear` is the data mixing law of Ye et al. 2024 (arXiv:2403.16952), loss_k = exp(i_k + s_k · w), without
its irreducible term, which a handful of runs cannot tell apart. The penalty is chosen by leave-one-out for
each target.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
from sklearn.linear_model import RidgeCV

from components.ablate.predictors.base import Observed, smooth
from components.ablate.types import Cube, Matrix, Vector

PENALTIES: Final = tuple(float(penalty) for penalty in np.logspace(-3, 1, 17))
LEAST: Final = 1e-6
"""Of a loss that a straight line predicts: it knows no zero."""


Values: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]


class Ridge:
    """value_k = intercept_k + (w - center) · slope_k, of log losses or of losses."""

    def __init__(self, observed: Observed, *, logarithmic: bool) -> None:
        self._weights_NC, self._logarithmic = observed.weights_NC, logarithmic
        self._center_C = observed.weights_NC.mean(axis=0)
        values_NK = self._values(observed.log_NK)
        fitted = RidgeCV(alphas=PENALTIES, alpha_per_target=True)
        fitted.fit(observed.weights_NC - self._center_C, values_NK)
        self._intercept_K: Vector = values_NK.mean(axis=0)
        self._slope_CK: Matrix = np.atleast_2d(fitted.coef_).T
        self._penalty_K: Vector = np.atleast_1d(fitted.alpha_)

    def log_losses(self, at_MC: Matrix) -> Matrix:
        return self._logs(self._intercept_K + (at_MC - self._center_C) @ self._slope_CK)

    def resampled(self, at_MC: Matrix, log_BNK: Cube) -> Cube:
        x_NC, x_MC = self._weights_NC - self._center_C, at_MC - self._center_C
        rows_KMN = np.stack(
            [
                1 / len(x_NC)
                + x_MC @ np.linalg.solve(x_NC.T @ x_NC + penalty * np.eye(x_NC.shape[1]), x_NC.T)
                for penalty in self._penalty_K
            ]
        )
        return self._logs(smooth(rows_KMN, self._values(log_BNK)))

    def _values(self, logs: Values) -> Values:
        return logs if self._logarithmic else np.exp(logs)

    def _logs(self, values: Values) -> Values:
        return values if self._logarithmic else np.log(np.maximum(values, LEAST))


def log_linear(observed: Observed) -> Ridge:
    return Ridge(observed, logarithmic=True)


def linear(observed: Observed) -> Ridge:
    return Ridge(observed, logarithmic=False)
