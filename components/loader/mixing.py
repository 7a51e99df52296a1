"""Mixing: which sample is drawn when, by category weights, each category in a new order every epoch.

All draws of a run are made at once and are a pure function of the seed: so a plan can be made from them
before training, and a resumed run needs no more than a number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from components.errors import ConfigError

Longs = npt.NDArray[np.int64]
ENDLESS = 1 << 62


@dataclass(frozen=True)
class Pool:
    """What is drawn from: the samples of each category, and how much one of them weighs."""

    samples: Mapping[str, Longs]
    mean_labelled: Mapping[str, float]
    """Labelled tokens of a category's average sample."""


@dataclass
class Drawing:
    """Draws samples; goes on where it stopped when asked again (the next phase).

    Args:
        max_epochs: Category → how often its samples are drawn at most; then it leaves the mixture. Categories
            that are not named are drawn without end.
    """

    pool: Pool
    seed: int
    max_epochs: Mapping[str, float] = field(default_factory=dict)
    position: dict[str, int] = field(default_factory=dict)
    returned: dict[str, list[int]] = field(default_factory=dict)
    """Samples that were drawn and not used: drawn first."""
    _random: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self._random = np.random.default_rng([self.seed, 1])

    def draw(self, weights: Mapping[str, float], number: int, *, by_samples: bool = False) -> Longs:
        """Samples in the order in which they are drawn: (number,), fewer where every category has ended.

        Args:
            weights: Share of each category in the labelled tokens, hence in the loss (by samples, a category
                with ten turns an image would drown one with a single caption); need not sum to one.
            by_samples: The weights are shares of samples instead.

        Raises:
            ConfigError: a category with weight has no sample, or none has weight.
        """
        shares = self._shares(weights, by_samples)
        names, drawn = sorted(shares), list[Longs]()
        while number > 0 and (left := [name for name in names if self._left(name) > 0]):
            share_K = np.array([shares[name] for name in left])
            choice_N = np.searchsorted(
                np.cumsum(share_K / share_K.sum()), self._random.random(number), "right"
            )
            choice_N = np.minimum(choice_N, len(left) - 1)
            until = self._until_one_ends(choice_N, left)
            drawn.append(self._samples(choice_N[:until], left))
            number -= until
        return np.concatenate(drawn) if drawn else np.zeros(0, np.int64)

    def give_back(self, samples_N: Longs) -> None:
        """Samples that were drawn and found no place: they are drawn first by who asks next."""
        for name, samples in self.pool.samples.items():
            own = samples_N[np.isin(samples_N, samples)]
            self.returned.setdefault(name, []).extend(own.tolist())

    def _shares(self, weights: Mapping[str, float], by_samples: bool) -> dict[str, float]:
        weighted = {name: weight for name, weight in weights.items() if weight > 0}
        missing = sorted(name for name in weighted if not len(self.pool.samples.get(name, ())))
        if missing or not weighted:
            raise ConfigError(
                f"the mixture weights {', '.join(missing) or 'nothing'}, which the dataset does not have",
                where=f"categories of the dataset: {', '.join(sorted(self.pool.samples))}",
                fix="weight at least one of the dataset's categories, and no other",
            )
        if by_samples:
            return weighted
        return {name: weight / self.pool.mean_labelled[name] for name, weight in weighted.items()}

    def _left(self, name: str) -> int:
        """How many more samples of a category may be drawn."""
        epochs = self.max_epochs.get(name, float("inf"))
        allowed = int(min(epochs * len(self.pool.samples[name]), ENDLESS))
        return allowed - self.position.get(name, 0) + len(self.returned.get(name, ()))

    def _until_one_ends(self, choice_N: Longs, names: list[str]) -> int:
        """How many of the draws can be made before a category has no more."""
        until = len(choice_N)
        for index, name in enumerate(names):
            left = self._left(name)
            if left <= len(choice_N):
                places = np.flatnonzero(choice_N == index)
                if len(places) >= left:
                    until = min(until, int(places[left - 1]) + 1)
        return until

    def _samples(self, choice_N: Longs, names: list[str]) -> Longs:
        samples_N = np.empty(len(choice_N), dtype=np.int64)
        for index, name in enumerate(names):
            places = np.flatnonzero(choice_N == index)
            samples_N[places] = self._next(name, len(places))
        return samples_N

    def _next(self, name: str, number: int) -> Longs:
        """The category's next samples, through as many epochs as it takes."""
        samples, taken = self.pool.samples[name], list[Longs]()
        waiting = self.returned.get(name, [])
        taken.append(np.array(waiting[:number], dtype=np.int64))
        self.returned[name], number = waiting[number:], number - len(taken[0])
        start = self.position.get(name, 0)
        self.position[name] = start + number
        category = sorted(self.pool.samples).index(name)
        while number > 0:
            epoch, at = divmod(start, len(samples))
            order = np.random.default_rng([self.seed, 2, category, epoch]).permutation(samples)
            taken.append(order[at : at + number])
            start, number = start + len(taken[-1]), number - len(taken[-1])
        return np.concatenate(taken) if taken else np.zeros(0, np.int64)
