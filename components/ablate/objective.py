"""What a mixture is judged by: targets, and how they make one number.

A target is a category's validation loss, named by the category, or its error (the share of validation answers
that greedy decoding does not write exactly), named `error/<category>`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from components.ablate.types import Matrix, ProxyRun, Vector
from components.config import AblateConfig
from components.errors import ConfigError

ERROR: Final = "error/"
LEAST_ERROR: Final = 1e-3
"""Of a target that is an error: where no answer is wrong, a logarithm still wants something."""


@dataclass(frozen=True)
class Objective:
    """Targets relative to the stratified run's; their weighted mean, or the worst: 1 is as good as that."""

    targets: tuple[str, ...]
    importance_K: Vector
    """Sums to one; of the worst case only what is not zero counts."""
    reference_K: Vector
    """Of the stratified run."""
    by: Literal["mean", "worst"]

    def __call__(self, losses_MK: Matrix) -> Vector:
        relative_MK = losses_MK / self.reference_K
        if self.by == "worst":
            worst: Vector = relative_MK[..., self.importance_K > 0].max(axis=-1)
            return worst
        mean: Vector = relative_MK @ self.importance_K
        return mean


def targets_of(config: AblateConfig, categories: Sequence[str]) -> tuple[str, ...]:
    """Every category's loss, and the errors that the objective names.

    Raises:
        ConfigError: the objective names what is no target.
    """
    known = (*categories, *(f"{ERROR}{name}" for name in categories))
    unknown = sorted(set(config.objective) - set(known))
    if unknown:
        raise ConfigError(
            f"ablate.objective names what is no target: {', '.join(unknown)}",
            where="ablate.objective",
            fix=f"targets here: {', '.join(categories)}, and {ERROR}… of each",
        )
    errors = tuple(name for name in config.objective if name.startswith(ERROR))
    return (*categories, *sorted(errors))


def objective_of(config: AblateConfig, categories: Sequence[str], stratified: ProxyRun) -> Objective:
    """
    Raises:
        ConfigError: the objective names what is no target, or gives nothing a weight.
    """
    targets = targets_of(config, categories)
    wanted = config.objective or dict.fromkeys(categories, 1.0)
    weights = np.array([wanted.get(name, 0.0) for name in targets])
    if (weights < 0).any() or weights.sum() <= 0:
        raise ConfigError(
            "weights of an objective must not be negative, and one must be positive",
            where="ablate.objective",
            fix="give each target that matters a positive weight",
        )
    reference = np.array([stratified.losses[name] for name in targets])
    return Objective(targets, weights / weights.sum(), reference, config.objective_by)


def owner(target: str) -> str:
    """The category that a target is measured on."""
    return target.removeprefix(ERROR)
