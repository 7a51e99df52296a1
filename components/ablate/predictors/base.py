"""What every predictor is fitted on, and what it can be asked.

Shapes: N runs, C categories (of the weights), K targets (losses), M mixtures, B resamples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from components.ablate.types import Cube, Matrix, Vector


@dataclass(frozen=True)
class Observed:
    """Finished proxy runs, as arrays."""

    weights_NC: Matrix
    """Rows sum to one."""
    log_NK: Matrix
    """Logarithms of the losses."""
    own_K: np.ndarray[tuple[int], np.dtype[np.int64]]
    """The category that each target is measured on; -1 where training has none of it."""

    def only(self, runs: Vector | np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Observed:
        """These runs alone (an index or a mask)."""
        return Observed(self.weights_NC[runs], self.log_NK[runs], self.own_K)

    def __len__(self) -> int:
        return len(self.weights_NC)


class Predictor(Protocol):
    """Fitted on proxy runs; tells the losses of mixtures that were not run."""

    def log_losses(self, at_MC: Matrix) -> Matrix:
        """Predicted logarithms of the losses, shape (M, K)."""

    def resampled(self, at_MC: Matrix, log_BNK: Cube) -> Cube:
        """Predictions had the runs' log losses been these, shape (B, M, K); what the fit chose about itself
        (penalties, length scales) stays."""


def smooth(rows_KMN: Cube, log_BNK: Cube) -> Cube:
    """Linear predictions from the rows of a smoother, shape (B, M, K)."""
    smoothed: Cube = np.einsum("kmn,bnk->bmk", rows_KMN, log_BNK)
    return smoothed
