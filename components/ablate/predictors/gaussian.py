"""Gaussian processes over the square roots of the weights, where a first share of a category counts most.

A process tells how sure it is, which the other predictors do not: `spread` is what the upper-confidence
acquisition looks at.
"""

from __future__ import annotations

import warnings
from typing import Final

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, WhiteKernel

from components.ablate.predictors.base import Observed, smooth
from components.ablate.types import Cube, Matrix, Vector

LEAST_SPREAD: Final = 1e-9


class Gaussian:
    """One process a target: a linear trend, smooth deviations from it, and noise."""

    def __init__(self, observed: Observed) -> None:
        self._weights_NC = observed.weights_NC
        roots_NC = np.sqrt(observed.weights_NC)
        self._center_C: Vector = roots_NC.mean(axis=0)
        self._unit = float(roots_NC.std(axis=0).mean()) + LEAST_SPREAD
        self._level_K: Vector = observed.log_NK.mean(axis=0)
        self._scale_K: Vector = observed.log_NK.std(axis=0) + LEAST_SPREAD
        x_NC = self._features(observed.weights_NC)
        scaled_NK = (observed.log_NK - self._level_K) / self._scale_K
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a scale at its bound is an answer too
            self._processes = [
                GaussianProcessRegressor(_kernel()).fit(x_NC, scaled_N) for scaled_N in scaled_NK.T
            ]

    def log_losses(self, at_MC: Matrix) -> Matrix:
        x_MC = self._features(at_MC)
        scaled_MK = np.stack([process.predict(x_MC) for process in self._processes], axis=1)
        logs: Matrix = scaled_MK * self._scale_K + self._level_K
        return logs

    def spread(self, at_MC: Matrix) -> Matrix:
        """Standard deviations of the predicted log losses, shape (M, K); the noise of a run is not in it."""
        x_MC, spreads = self._features(at_MC), []
        for process in self._processes:
            _, total_M = process.predict(x_MC, return_std=True)
            noise = process.kernel_.get_params()["k2__noise_level"]
            spreads.append(np.sqrt(np.maximum(total_M**2 - noise, 0)))
        spread: Matrix = np.stack(spreads, axis=1) * self._scale_K
        return spread

    def resampled(self, at_MC: Matrix, log_BNK: Cube) -> Cube:
        x_NC, x_MC = self._features(self._weights_NC), self._features(at_MC)
        rows_KMN = np.stack(
            [
                np.linalg.solve(process.kernel_(x_NC), process.kernel_(x_MC, x_NC).T).T
                for process in self._processes
            ]
        )
        level_B1K = log_BNK.mean(axis=1, keepdims=True)
        resampled: Cube = level_B1K + smooth(rows_KMN, log_BNK - level_B1K)
        return resampled

    def _features(self, weights_MC: Matrix) -> Matrix:
        features: Matrix = (np.sqrt(weights_MC) - self._center_C) / self._unit
        return features


def _kernel() -> WhiteKernel:
    smooth_part = ConstantKernel(1.0, (1e-2, 1e3)) * RBF(4.0, (0.5, 100))
    trend = ConstantKernel(1.0, (1e-3, 1e3)) * DotProduct(0.0, "fixed")
    return smooth_part + trend + WhiteKernel(1e-2, (1e-5, 1))
