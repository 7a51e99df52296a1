"""From proxy runs to a prediction of every mixture's losses, and the mixture predicted best.

Per category the loss is log-linear in the weights w of the mixture, loss_c(w) = k_c exp(t_c · w), the
"data mixing law" of Ye et al. 2024 (arXiv:2403.16952) without its irreducible term: a handful of runs
cannot tell that term apart. log loss is fitted by ridge regression, its penalty chosen by leave-one-out.
The objective, a weighted sum of these losses, is convex in w, so its minimum is found surely.

Shapes: N runs, C categories (weights), K categories (losses; the same ones), M mixtures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import optimize, stats
from sklearn.linear_model import RidgeCV

from components.ablate.types import Gain, Matrix, ProxyRun, Vector

PENALTIES: Final = tuple(float(penalty) for penalty in np.logspace(-3, 1, 17))


@dataclass(frozen=True)
class Predictor:
    """log loss_k = intercept_k + (w - center) · slope_k."""

    center_C: Vector
    intercept_K: Vector
    slope_CK: Matrix
    penalty_K: Vector

    def losses(self, weights_MC: Matrix) -> Matrix:
        """Predicted losses, shape (M, K)."""
        predicted: Matrix = np.exp(self.intercept_K + (weights_MC - self.center_C) @ self.slope_CK)
        return predicted


@dataclass(frozen=True)
class Objective:
    """Weighted mean of losses, each relative to the stratified run's: 1 is as good as stratified."""

    importance_K: Vector
    """Sums to one."""
    reference_K: Vector
    """Losses of the stratified run."""

    def __call__(self, losses_MK: Matrix) -> Vector:
        value: Vector = losses_MK @ (self.importance_K / self.reference_K)
        return value


def fit(weights_NC: Matrix, losses_NK: Matrix) -> Predictor:
    """Ridge regression of log loss on weights, one penalty per category.

    Args:
        weights_NC: Mixtures of the runs, rows sum to one, N ≥ 3.
        losses_NK: Their losses, positive.
    """
    center = weights_NC.mean(axis=0)
    ridge = RidgeCV(alphas=PENALTIES, alpha_per_target=True)
    ridge.fit(weights_NC - center, np.log(losses_NK))
    return Predictor(center, np.log(losses_NK).mean(axis=0), ridge.coef_.T, np.atleast_1d(ridge.alpha_))


def leave_one_out(weights_NC: Matrix, losses_NK: Matrix) -> Matrix:
    """Losses of each run as predicted from all other runs, shape (N, K)."""
    rows = []
    for index in range(len(weights_NC)):
        others = np.arange(len(weights_NC)) != index
        predictor = fit(weights_NC[others], losses_NK[others])
        rows.append(predictor.losses(weights_NC[index : index + 1])[0])
    return np.stack(rows)


def rank_correlation(observed: Vector, predicted: Vector) -> float:
    """Spearman correlation; 0 when either side does not vary (nothing is ranked)."""
    if np.ptp(observed) < 1e-12 or np.ptp(predicted) < 1e-12:
        return 0.0
    return float(stats.spearmanr(observed, predicted).statistic)


def best_mixture(predictor: Predictor, objective: Objective, weights_NC: Matrix, floor: float) -> Vector:
    """The mixture with the least predicted objective, inside the range that the runs explored.

    Args:
        weights_NC: Mixtures of the runs; no weight leaves their range (a fit says little outside it).
        floor: No weight goes below.
    """
    low = np.maximum(weights_NC.min(axis=0), floor)
    high = np.maximum(weights_NC.max(axis=0), low)

    def value(w: Vector) -> float:
        return float(objective(predictor.losses(w[None]))[0])

    def gradient(w: Vector) -> Vector:
        share_K = predictor.losses(w[None])[0] * objective.importance_K / objective.reference_K
        slope: Vector = predictor.slope_CK @ share_K
        return slope

    start = weights_NC[int(np.argmin(objective(predictor.losses(weights_NC))))]
    found = optimize.minimize(
        value,
        start,
        jac=gradient,
        method="SLSQP",
        bounds=list(zip(low, high, strict=True)),
        constraints=[{"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like}],
        options={"ftol": 1e-10, "maxiter": 500},
    )
    best: Vector = found.x if found.success and value(found.x) < value(start) else start
    mixture: Vector = best / best.sum()
    return mixture


def predicted_gain(
    weights_NC: Matrix,
    losses_NK: Matrix,
    mixture_C: Vector,
    stratified_C: Vector,
    objective: Objective,
    *,
    resamples: int,
    confidence: float,
    seed: int,
) -> Gain:
    """Relative improvement of the objective that the fit predicts, with a wild-bootstrap interval.

    Each resample multiplies every run's leave-one-out residual (larger, and honester, than the fitted one)
    by a standard normal number, the same for all its categories, and refits with the same penalties.
    """
    predictor = fit(weights_NC, losses_NK)
    fitted_NK = np.log(predictor.losses(weights_NC))
    residual_NK = np.log(losses_NK) - np.log(leave_one_out(weights_NC, losses_NK))
    two_MC = np.stack([mixture_C, stratified_C])
    noise_BN = np.random.default_rng(seed).standard_normal((resamples, len(weights_NC)))
    target_BNK = fitted_NK[None] + noise_BN[:, :, None] * residual_NK[None]
    losses_BMK = np.exp(
        np.stack(
            [
                np.einsum("mn,bn->bm", _smoother(weights_NC, two_MC, penalty), target_BNK[:, :, k])
                for k, penalty in enumerate(predictor.penalty_K)
            ],
            axis=-1,
        )
    )
    tail = (1 - confidence) / 2
    low, high = np.quantile(_gain(losses_BMK, objective), [tail, 1 - tail])
    value = _gain(predictor.losses(two_MC)[None], objective)[0]
    return Gain(float(value), float(low), float(high))


def as_arrays(runs: Sequence[ProxyRun], categories: Sequence[str]) -> tuple[Matrix, Matrix]:
    """Weights (N, C) and losses (N, K) of the runs, columns in the order of `categories`."""
    weights = np.array([[run.weights[name] for name in categories] for run in runs], dtype=np.float64)
    losses = np.array([[run.losses[name] for name in categories] for run in runs], dtype=np.float64)
    return weights, losses


def _gain(losses_BMK: np.ndarray[tuple[int, int, int], np.dtype[np.float64]], objective: Objective) -> Vector:
    value_BM = losses_BMK @ (objective.importance_K / objective.reference_K)
    gain: Vector = 1 - value_BM[:, 0] / value_BM[:, 1]
    return gain


def _smoother(weights_NC: Matrix, at_MC: Matrix, penalty: float) -> Matrix:
    """Rows that turn log losses of the runs into ridge predictions at `at_MC`, shape (M, N)."""
    center = weights_NC.mean(axis=0)
    x = weights_NC - center
    solved = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T)
    smoother: Matrix = 1 / len(x) + (at_MC - center) @ solved
    return smoother
