"""Mixtures between floors and ceilings: the part of the simplex that a search may use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import optimize, stats

from components.ablate.types import Matrix, Vector
from components.config import AblateConfig
from components.errors import ConfigError

DECIMALS: Final = 4
"""Of a weight, as written."""


@dataclass(frozen=True)
class Bounds:
    """Least and most share of each category; some mixture keeps them all."""

    low_C: Vector
    high_C: Vector

    def keep(self, weights_C: Vector) -> Vector:
        """The nearest mixture within the bounds."""

        def surplus(shift: float) -> float:
            return float(np.clip(weights_C + shift, self.low_C, self.high_C).sum() - 1)

        if abs(surplus(0.0)) < 1e-12:
            return np.clip(weights_C, self.low_C, self.high_C)
        shift = optimize.brentq(surplus, -1.0 - weights_C.max(), 1.0 + weights_C.max(), xtol=1e-14)
        kept: Vector = np.clip(weights_C + shift, self.low_C, self.high_C)
        return kept

    def within(self, weights_NC: Matrix) -> Bounds:
        """As narrow as what the runs explored: outside it a fit says little."""
        low_C = np.maximum(self.low_C, weights_NC.min(axis=0))
        return Bounds(low_C, np.maximum(np.minimum(self.high_C, weights_NC.max(axis=0)), low_C))


def bounds_of(config: AblateConfig, names: Sequence[str]) -> Bounds:
    """The config's floors and ceilings, in the order of `names`.

    Raises:
        ConfigError: they name a category that the dataset does not have, or no mixture keeps them.
    """
    for field, named in (("floors", config.floors), ("ceilings", config.ceilings), ("prior", config.prior)):
        assert_known(named, names, f"ablate.{field}")
    low = np.array(list(floors_of(config, names).values()))
    high = np.array([config.ceilings.get(name, 1.0) for name in names])
    if low.sum() >= 1:
        raise ConfigError(
            f"the floors of {len(names)} categories sum to {low.sum():.3f} and leave nothing to distribute",
            where="ablate.min_share, ablate.floors",
            fix=f"set min_share below {1 / len(names):.3f}, or lower the floors",
        )
    crossed = [name for name, least, most in zip(names, low, high, strict=True) if least > most]
    if crossed or high.sum() <= 1:
        which = ", ".join(crossed) or "all of them"
        raise ConfigError(
            f"no mixture keeps the ceilings (of {which})",
            where="ablate.ceilings",
            fix="raise them above the floors, and until they sum to more than 1",
        )
    return Bounds(low, high)


def floors_of(config: AblateConfig, names: Sequence[str]) -> dict[str, float]:
    """Category → least share."""
    return {name: config.floors.get(name, config.min_share) for name in names}


def assert_known(named: Mapping[str, object], names: Sequence[str], where: str) -> None:
    """
    Raises:
        ConfigError: a name is of no category of the dataset.
    """
    unknown = sorted(set(named) - set(names))
    if unknown:
        raise ConfigError(
            f"{where} names categories that the dataset does not have: {', '.join(unknown)}",
            where=where,
            fix=f"categories here: {', '.join(names)}",
        )


def spread_out(center_C: Vector, bounds: Bounds, concentration: float, log2: int, seed: int) -> Matrix:
    """2^log2 mixtures from a Dirichlet distribution around `center_C`, within the bounds.

    A scrambled Sobol sequence goes through the inverse gamma distribution function, so that they fill the
    space evenly.

    Args:
        concentration: Times the number of categories, it is the distribution's total concentration.
    """
    count = len(center_C)
    sobol = stats.qmc.Sobol(count, scramble=True, rng=np.random.default_rng(seed))
    uniform = np.clip(sobol.random_base2(log2), 1e-9, 1 - 1e-9)
    # Around the surplus over the floors: what is lifted onto them has the center for its mean.
    surplus_C = np.maximum(center_C - bounds.low_C, 1e-3)
    shape_C = concentration * count * surplus_C / surplus_C.sum()
    gamma = stats.gamma.ppf(uniform, a=shape_C) + 1e-12
    shares = gamma / gamma.sum(axis=1, keepdims=True)
    lifted = bounds.low_C + (1 - bounds.low_C.sum()) * shares
    if (lifted <= bounds.high_C).all():
        return np.asarray(lifted)
    return np.stack([bounds.keep(row) for row in lifted])


def farthest(pool_MC: Matrix, tried_NC: Matrix) -> Vector:
    """The mixture of the pool that is farthest from all that were tried (maximin)."""
    distance_M = np.abs(pool_MC[:, None, :] - tried_NC[None, :, :]).sum(axis=2).min(axis=1)
    chosen: Vector = pool_MC[int(distance_M.argmax())]
    return chosen


def rounded(weights: Vector) -> list[float]:
    """Weights with few decimals that still sum to one; the largest takes the rest."""
    short = np.round(weights, DECIMALS)
    short[int(short.argmax())] += 1 - short.sum()
    return [round(float(weight), DECIMALS) for weight in short]
