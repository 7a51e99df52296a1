"""A law of substitution: what other categories are worth in place of a target's own.

The data that a mixture w holds for target k is a sum with constant elasticity of substitution (Arrow,
Chenery, Minhas and Solow 1961), and the loss falls as a power of it:

    log loss_k = a_k - b_k log Σ_c T_kc w_c^g_k,    T_kc = 1 for the target's own category

T_kc > 0 is what a share of category c is worth to target k; g < 1 says that the first share of a category
teaches more than the next. Fitted as the most probable parameters under priors that all targets share: log T
has a mean made of an effect of the target and one of the category, both shrunken, and a spread, which are
estimated together with it (empirical Bayes). So most of the 3 + C parameters of a target cost no run of their
own, and a handful of runs is enough. The prior of g was set on RegMix's 512 runs for fitting
(`benchmarks/mixture_replay.py`), never on its test runs.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from components.ablate.predictors.base import Observed, smooth
from components.ablate.types import Cube, Matrix, Vector

ROUNDS: Final = 5
"""Of fitting and estimating the priors."""
STEPS: Final = 60
"""Of Levenberg and Marquardt in a round, at most."""
SETTLED: Final = 1e-9
"""Relative change of the objective that ends a round."""
LEAST_SHARE: Final = 1e-6
EXPONENT, EXPONENT_SPREAD = float(np.log(0.58)), 0.15
"""Prior of log g."""
POWER, POWER_SPREAD = -1.5, 0.7
"""Prior of log b before the targets have told their own mean."""
WORTH, WORTH_SPREAD = -3.0, (0.8, 2.5)
"""Prior of log T: its first mean, and between what its spread is kept."""
FIXED: Final = 1e8
"""Precision of what is not free: log T of the own category is 0."""
SETTING: Final = 3
"""Parameters of a target before its log T: a, log b, log g."""


class Substitution:
    """Parameters, shape (K, 3 + C): a, log b, log g, log T."""

    def __init__(self, observed: Observed) -> None:
        self._log_share_NC = _log_share(observed.weights_NC)
        self._log_NK = observed.log_NK
        runs, targets = observed.log_NK.shape
        self._noise_K: Vector = np.full(targets, 0.02)
        self._free_KC = np.ones((targets, observed.weights_NC.shape[1]))
        owned = np.flatnonzero(observed.own_K >= 0)
        self._free_KC[owned, observed.own_K[owned]] = 0
        self._mean_KP = self._first_guess()
        self._precision_KP = self._precision(WORTH_SPREAD[1])
        self._parameters_KP = self._mean_KP.copy()
        for _ in range(ROUNDS):
            self._maximize()
            self._estimate_noise(runs)
            self._estimate_priors()

    def log_losses(self, at_MC: Matrix) -> Matrix:
        return _predict(self._parameters_KP, _log_share(at_MC))[0]

    def resampled(self, at_MC: Matrix, log_BNK: Cube) -> Cube:
        """To first order around the fit: the nearest linear smoother."""
        at_MK, slope_KMP = _predict(self._parameters_KP, _log_share(at_MC))
        fitted_NK, slope_KNP = _predict(self._parameters_KP, self._log_share_NC)
        curvature_KPP = self._curvature(slope_KNP)
        gain_KPN = np.linalg.solve(curvature_KPP, slope_KNP.transpose(0, 2, 1))
        rows_KMN = slope_KMP @ gain_KPN / (self._noise_K**2)[:, None, None]
        return at_MK + smooth(rows_KMN, log_BNK - fitted_NK)

    def _first_guess(self) -> Matrix:
        targets = len(self._free_KC)
        guess = np.empty((targets, SETTING + self._free_KC.shape[1]))
        guess[:, 0] = self._log_NK.mean(axis=0)
        guess[:, 1], guess[:, 2] = POWER, EXPONENT
        guess[:, SETTING:] = WORTH * self._free_KC
        return guess

    def _precision(self, spread: float) -> Matrix:
        precision = np.empty_like(self._mean_KP)
        precision[:, 0] = 0  # a is whatever fits
        precision[:, 1], precision[:, 2] = POWER_SPREAD**-2, EXPONENT_SPREAD**-2
        precision[:, SETTING:] = np.where(self._free_KC > 0, spread**-2, FIXED)
        return precision

    def _objective_K(self, parameters_KP: Matrix, predicted_NK: Matrix) -> Vector:
        misfit_K = ((self._log_NK - predicted_NK) ** 2).sum(axis=0) / self._noise_K**2
        total: Vector = misfit_K + (self._precision_KP * (parameters_KP - self._mean_KP) ** 2).sum(axis=1)
        return total

    def _curvature(self, slope_KNP: Cube) -> Cube:
        gram_KPP = slope_KNP.transpose(0, 2, 1) @ slope_KNP / (self._noise_K**2)[:, None, None]
        curvature: Cube = gram_KPP + self._precision_KP[:, :, None] * np.eye(self._precision_KP.shape[1])
        return curvature

    def _maximize(self) -> None:
        """Levenberg and Marquardt's method, all targets side by side, each with its own damping."""
        damping_K = np.full(len(self._noise_K), 1e-2)
        predicted_NK, slope_KNP = _predict(self._parameters_KP, self._log_share_NC)
        value_K = self._objective_K(self._parameters_KP, predicted_NK)
        for _ in range(STEPS):
            residual_NK = self._log_NK - predicted_NK
            downhill_KP = np.einsum("knp,nk->kp", slope_KNP, residual_NK / self._noise_K**2)
            downhill_KP -= self._precision_KP * (self._parameters_KP - self._mean_KP)
            curvature_KPP = self._curvature(slope_KNP)
            diagonal_KP = np.einsum("kpp->kp", curvature_KPP)
            damped_KPP = curvature_KPP + (damping_K[:, None] * diagonal_KP)[:, :, None] * np.eye(
                diagonal_KP.shape[1]
            )
            step_KP = np.linalg.solve(damped_KPP, downhill_KP[:, :, None])[:, :, 0]
            tried_KP = self._parameters_KP + np.clip(step_KP, -2, 2)
            tried_NK, tried_slope_KNP = _predict(tried_KP, self._log_share_NC)
            tried_value_K = self._objective_K(tried_KP, tried_NK)
            better_K = tried_value_K < value_K
            gained = float(((value_K - tried_value_K) / value_K)[better_K].max(initial=0.0))
            self._parameters_KP = np.where(better_K[:, None], tried_KP, self._parameters_KP)
            predicted_NK = np.where(better_K, tried_NK, predicted_NK)
            slope_KNP = np.where(better_K[:, None, None], tried_slope_KNP, slope_KNP)
            value_K = np.where(better_K, tried_value_K, value_K)
            damping_K = np.clip(np.where(better_K, damping_K / 5, damping_K * 5), 1e-9, 1e9)
            if better_K.any() and gained < SETTLED:
                break

    def _estimate_noise(self, runs: int) -> None:
        """Spread of what is left, half way to the one that all targets share; parameters are paid for."""
        predicted_NK, slope_KNP = _predict(self._parameters_KP, self._log_share_NC)
        gain_KPN = np.linalg.solve(self._curvature(slope_KNP), slope_KNP.transpose(0, 2, 1))
        spent_K = np.einsum("knp,kpn->k", slope_KNP, gain_KPN) / self._noise_K**2
        freedom_K = np.maximum(runs - spent_K, 0.3 * runs)
        left_K = ((self._log_NK - predicted_NK) ** 2).sum(axis=0) / freedom_K + 1e-6
        self._noise_K = np.sqrt(np.sqrt(left_K * np.exp(np.log(left_K).mean())))

    def _estimate_priors(self) -> None:
        """Effects of target and category on log T, each shrunken by one observation of none."""
        worth_KC, free_KC = self._parameters_KP[:, SETTING:], self._free_KC
        middle = (worth_KC * free_KC).sum() / free_KC.sum()
        target_K, category_C = np.zeros(worth_KC.shape[0]), np.zeros(worth_KC.shape[1])
        for _ in range(10):
            rest_KC = (worth_KC - middle - category_C) * free_KC
            target_K = rest_KC.sum(axis=1) / (free_KC.sum(axis=1) + 1)
            rest_KC = (worth_KC - middle - target_K[:, None]) * free_KC
            category_C = rest_KC.sum(axis=0) / (free_KC.sum(axis=0) + 1)
        mean_KC = middle + target_K[:, None] + category_C
        spread = 1.2 * float((worth_KC - mean_KC)[free_KC > 0].std())
        self._mean_KP[:, 0] = self._parameters_KP[:, 0]
        self._mean_KP[:, 1] = self._parameters_KP[:, 1].mean()
        self._mean_KP[:, SETTING:] = mean_KC * free_KC
        self._precision_KP = self._precision(float(np.clip(spread, *WORTH_SPREAD)))


def _log_share(weights_MC: Matrix) -> Matrix:
    logs: Matrix = np.log(weights_MC + LEAST_SHARE)
    return logs


def _predict(parameters_KP: Matrix, log_share_MC: Matrix) -> tuple[Matrix, Cube]:
    """Log losses (M, K), and their slopes by the parameters (K, M, P)."""
    level_K, power_K, exponent_K = (
        parameters_KP[:, 0],
        np.exp(parameters_KP[:, 1]),
        np.exp(parameters_KP[:, 2]),
    )
    scaled_KMC = exponent_K[:, None, None] * log_share_MC
    worth_KMC = parameters_KP[:, None, SETTING:] + scaled_KMC
    top_KM = worth_KMC.max(axis=2)
    share_KMC = np.exp(worth_KMC - top_KM[:, :, None])
    total_KM = share_KMC.sum(axis=2)
    share_KMC /= total_KM[:, :, None]
    amount_KM = top_KM + np.log(total_KM)
    slope_KMP = np.empty((*amount_KM.shape, parameters_KP.shape[1]))
    slope_KMP[:, :, 0] = 1
    slope_KMP[:, :, 1] = -power_K[:, None] * amount_KM
    slope_KMP[:, :, 2] = -power_K[:, None] * (share_KMC * scaled_KMC).sum(axis=2)
    slope_KMP[:, :, SETTING:] = -power_K[:, None, None] * share_KMC
    predicted_MK: Matrix = (level_K[:, None] - power_K[:, None] * amount_KM).T
    return predicted_MK, slope_KMP
