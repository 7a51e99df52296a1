"""What the ablation hands around: candidates, finished proxy runs, the fit and the choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

Vector: TypeAlias = np.ndarray[tuple[int], np.dtype[np.float64]]
Matrix: TypeAlias = np.ndarray[tuple[int, int], np.dtype[np.float64]]
Cube: TypeAlias = np.ndarray[tuple[int, int, int], np.dtype[np.float64]]


@dataclass(frozen=True)
class Candidate:
    """A named mixture that a proxy run tries."""

    name: str
    weights: dict[str, float]


@dataclass(frozen=True)
class ProxyRun:
    """A finished proxy run: the mixture it trained on and what it reached."""

    name: str
    weights: dict[str, float]
    losses: dict[str, float]
    """Validation loss per category."""


@dataclass(frozen=True)
class Gain:
    """Predicted relative improvement of the objective over the stratified mixture, with its interval."""

    value: float
    low: float
    high: float
