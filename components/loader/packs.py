"""Packs: which turns of which samples stand in one sequence, planned deterministically, resumable exactly.

Two budgets bound a pack, tokens and images. The stream draws samples by category weight, each category
in a new seeded order every epoch, into a pool of bounded size; a pack starts with the oldest item of
the pool (nothing starves) and takes the largest that still fits until none does (best fit).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from components.errors import ConfigError
from components.loader.encode import Encoded

POOL = 128


@dataclass(frozen=True)
class Item:
    """Turns of one sample that stand together behind their shared prefix."""

    sample: int
    first_turn: int
    """Index into all turns of the split."""
    num_turns: int
    image: bool
    num_tokens: int
    shift: tuple[int, int] = (0, 0)
    """Pixels that the image is moved by, right and down (augmentation)."""


Pack: TypeAlias = tuple[Item, ...]


def split_sample(encoded: Encoded, sample: int, *, image: bool, pack_tokens: int) -> list[Item]:
    """The items of a sample: one, or more where its turns do not fit into one pack.

    Raises:
        ConfigError: a single turn does not fit.
    """
    turns = encoded.turns(image)
    prefix, items = len(turns.prefix), list[Item]()
    first, num_tokens = int(encoded.turn_S[sample]), len(turns.prefix)
    for turn in range(first, int(encoded.turn_S[sample + 1])):
        length = int(turns.start_T[turn + 1] - turns.start_T[turn])
        if prefix + length > pack_tokens:
            raise ConfigError(
                f"a turn of {prefix + length} tokens does not fit into a pack of {pack_tokens}",
                where=f"pack_tokens, sample {sample}",
                fix=f"set pack_tokens to at least {prefix + length}",
            )
        if num_tokens + length > pack_tokens:
            items.append(Item(sample, first, turn - first, image, num_tokens))
            first, num_tokens = turn, prefix
        num_tokens += length
    items.append(Item(sample, first, int(encoded.turn_S[sample + 1]) - first, image, num_tokens))
    return items


def take_pack(pool: list[Item], *, pack_tokens: int, pack_images: int) -> Pack:
    """Remove one pack's items from `pool`: its oldest, then always the largest that fits."""
    pack = [pool.pop(0)]
    tokens, images = pack[0].num_tokens, int(pack[0].image)
    while True:
        best = -1
        for index, item in enumerate(pool):
            fits = tokens + item.num_tokens <= pack_tokens and images + item.image <= pack_images
            if fits and (best < 0 or item.num_tokens > pool[best].num_tokens):
                best = index
        if best < 0:
            return tuple(pack)
        pack.append(pool.pop(best))
        tokens, images = tokens + pack[-1].num_tokens, images + pack[-1].image


def pack_once(encoded: Encoded, samples: Sequence[int], *, pack_tokens: int, pack_images: int) -> list[Pack]:
    """Pack each of `samples` once, with its image; for validation."""
    waiting = [
        item
        for sample in samples
        for item in split_sample(
            encoded, sample, image=bool(encoded.image_S[sample] >= 0), pack_tokens=pack_tokens
        )
    ]
    packs, pool = list[Pack](), list[Item]()
    while waiting or pool:
        missing = POOL - len(pool)
        pool, waiting = pool + waiting[:missing], waiting[missing:]
        packs.append(take_pack(pool, pack_tokens=pack_tokens, pack_images=pack_images))
    return packs


def labelled_per_sample(encoded: Encoded, category: str) -> float:
    """Mean number of labelled tokens of a sample of `category`."""
    turns = encoded.with_image
    labelled_T = np.diff(turns.start_T) - turns.answer_T
    before_S = np.concatenate([[0], np.cumsum(labelled_T)])[encoded.turn_S]
    chosen = encoded.category_S == encoded.categories.index(category)
    return float(np.diff(before_S)[chosen].mean())


class PackStream:
    """An endless stream of packs; the same seed gives the same packs, and `state_dict` resumes exactly.

    Args:
        weights: Share of each category in the labelled tokens, hence in the loss; need not sum to one.
            (By samples, a category with ten turns an image would drown one with a single caption.)
        text_only_share: Share of the samples that are shown without their image.
        max_shift: Category → pixels that its images are moved by at most, either way (augmentation).

    Raises:
        ConfigError: a category with weight has no sample.
    """

    def __init__(
        self,
        encoded: Encoded,
        weights: Mapping[str, float],
        *,
        seed: int,
        pack_tokens: int,
        pack_images: int,
        text_only_share: float = 0.0,
        max_shift: Mapping[str, int] | None = None,
    ) -> None:
        self.encoded, self.seed = encoded, seed
        self.max_shift = dict(max_shift or {})
        self.pack_tokens, self.pack_images = pack_tokens, pack_images
        self.text_only_share = text_only_share
        self.names = sorted(name for name, weight in weights.items() if weight > 0)
        missing = sorted(set(self.names) - set(encoded.categories))
        if missing or not self.names:
            raise ConfigError(
                f"the mixture weights {missing or 'nothing'}, which the dataset does not have",
                where=f"categories of the dataset: {', '.join(encoded.categories)}",
                fix="weight at least one of the dataset's categories, and no other",
            )
        shares = np.array([weights[name] / labelled_per_sample(encoded, name) for name in self.names])
        self.cumulative = np.cumsum(shares / shares.sum())
        self.epoch = dict.fromkeys(self.names, -1)
        self.position = dict.fromkeys(self.names, 0)
        self.order: dict[str, np.ndarray[Any, np.dtype[np.int64]]] = {}
        self.pool: list[Item] = []
        self.random = np.random.default_rng([seed, 1])

    def __iter__(self) -> Iterator[Pack]:
        return self

    def __next__(self) -> Pack:
        while len(self.pool) < POOL:
            self.pool.extend(self._draw())
        return take_pack(self.pool, pack_tokens=self.pack_tokens, pack_images=self.pack_images)

    def _draw(self) -> list[Item]:
        index = int(np.searchsorted(self.cumulative, self.random.random(), side="right"))
        name = self.names[min(index, len(self.names) - 1)]
        if name not in self.order or self.position[name] == len(self.order[name]):
            self._shuffle(name, self.epoch[name] + 1)
        sample = int(self.order[name][self.position[name]])
        self.position[name] += 1
        shown = self.random.random() >= self.text_only_share
        image = shown and bool(self.encoded.image_S[sample] >= 0)
        items = split_sample(self.encoded, sample, image=image, pack_tokens=self.pack_tokens)
        most = self.max_shift.get(name, 0)
        if not image or not most:
            return items
        right, down = (int(each) for each in self.random.integers(-most, most, size=2, endpoint=True))
        return [replace(item, shift=(right, down)) for item in items]

    def _shuffle(self, name: str, epoch: int) -> None:
        category = self.encoded.categories.index(name)
        samples = np.flatnonzero(self.encoded.category_S == category)
        self.order[name] = np.random.default_rng([self.seed, 2, category, epoch]).permutation(samples)
        self.epoch[name], self.position[name] = epoch, 0

    def state_dict(self) -> dict[str, Any]:
        """Everything the packs to come depend on, as JSON values."""
        return {
            "random": self.random.bit_generator.state,
            "epoch": dict(self.epoch),
            "position": dict(self.position),
            "pool": [list(astuple(item)) for item in self.pool],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on exactly where `state_dict` was taken (same data, weights and seed)."""
        self.random.bit_generator.state = state["random"]
        for name in self.names:
            if state["epoch"][name] >= 0:
                self._shuffle(name, state["epoch"][name])
        self.position = dict(state["position"])
        self.pool = [Item(*[*rest, (right, down)]) for *rest, (right, down) in state["pool"]]
