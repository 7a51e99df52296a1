"""What every reader settles while it plans: its options with types, the split of a group, the wording."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import ceil, log
from typing import TypeVar, cast

from components.config import SourceConfig
from components.curate.samples import Split, share

T = TypeVar("T")
Scalar = TypeVar("Scalar", int, float, str, bool)


def option(source: SourceConfig, name: str, default: Scalar) -> Scalar:
    """An option of a source, in the default's type (the preflight has checked that it fits)."""
    return type(default)(cast(Scalar, source.options.get(name, default)))


def names(source: SourceConfig, name: str) -> tuple[str, ...]:
    """An option that lists names; empty where the source does not set it."""
    listed = source.options.get(name, [])
    assert isinstance(listed, list), f"the preflight let {listed!r} through"
    return tuple(listed)


def split_of(seed: int, kind: str, group: str, *, unseen: float, validation: float) -> Split:
    """The split of a whole group (a country, a document): everything in it goes the same way."""
    place = share(seed, kind, group)
    if place < unseen:
        return "test"
    return "validation" if place < unseen + validation else "train"


def divide(
    seed: int, kind: str, groups: Iterable[str], *, unseen: float, validation: float
) -> dict[str, Split]:
    """Group → split, where there are few groups: by rank, so that of three groups no split stays empty."""
    ranked = sorted(set(groups), key=lambda group: (share(seed, kind, group), group))
    test, held_out = ceil(unseen * len(ranked)), ceil(unseen * len(ranked)) + ceil(validation * len(ranked))
    return {
        group: "test" if rank < test else "validation" if rank < held_out else "train"
        for rank, group in enumerate(ranked)
    }


def pick(choices: Sequence[T], seed: int, *key: str) -> T:
    """One of several, always the same for the same key. A wording is keyed by the picture: keyed by what the
    picture shows, it would give the answer away."""
    return choices[int(share(seed, "pick", *key) * len(choices))]


def pick_rare(choices: Sequence[T], times: Mapping[T, int], seed: int, *key: str) -> T:
    """One of several, the likelier the rarer it is in the source (Efraimidis and Spirakis 2006).

    Asked so, every choice comes up about as often: who sees only the question cannot guess the answer.
    """
    return max(choices, key=lambda each: times[each] * log(1 - share(seed, "rare", *key, repr(each))))


def coin(seed: int, *key: str) -> bool:
    """Heads or tails: which way a yes/no question is asked."""
    return share(seed, "coin", *key) < 0.5
