"""Gradient-boosted trees with RegMix's settings (Liu et al. 2024, arXiv:2407.01492)."""

from __future__ import annotations

from typing import Final

import lightgbm
import numpy as np

from components.ablate.predictors.base import Observed
from components.ablate.types import Cube, Matrix

TREES: Final = 1000
SETTINGS: Final = {
    "objective": "regression",
    "learning_rate": 1e-2,
    "seed": 42,
    "num_threads": 1,
    "deterministic": True,
    "verbosity": -1,
}
RUNS_IN_LEAF: Final = 20
"""LightGBM's default. With few runs no tree could split: then an eighth of them, two at least."""


class Boosted:
    """One model a target, of losses."""

    def __init__(self, observed: Observed) -> None:
        self._weights_NC = observed.weights_NC
        self._models = _trained(observed.weights_NC, observed.log_NK)

    def log_losses(self, at_MC: Matrix) -> Matrix:
        return _told(self._models, at_MC)

    def resampled(self, at_MC: Matrix, log_BNK: Cube) -> Cube:
        """Trees are no smoother: trained again for each resample, which takes a while."""
        resampled: Cube = np.stack([_told(_trained(self._weights_NC, log_NK), at_MC) for log_NK in log_BNK])
        return resampled


def _trained(weights_NC: Matrix, log_NK: Matrix) -> list[lightgbm.Booster]:
    settings = SETTINGS | {"min_data_in_leaf": min(RUNS_IN_LEAF, max(2, len(weights_NC) // 8))}
    return [
        lightgbm.train(settings, lightgbm.Dataset(weights_NC, loss_N), num_boost_round=TREES)
        for loss_N in np.exp(log_NK).T
    ]


def _told(models: list[lightgbm.Booster], at_MC: Matrix) -> Matrix:
    logs: Matrix = np.log(np.stack([np.asarray(model.predict(at_MC)) for model in models], axis=1))
    return logs
