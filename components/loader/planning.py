"""Planning: draw what a run's phases need, and pack it; made from lengths alone, no text is read again.

Letters in array names: S samples, N drawn samples, K items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from components.errors import ConfigError
from components.loader.encode import Encoded
from components.loader.items import Items, TooLong, build_items
from components.loader.mixing import Drawing, Pool
from components.loader.packing import POOL, Strategy, pack
from components.loader.plan import Longs, Pack, Plan, Rows

OVERDRAW = 1.03
"""More samples than the packs are expected to hold: the last packs of a pool are the worst filled."""


@dataclass(frozen=True)
class Packing:
    """How samples are drawn and packed."""

    pack_tokens: int
    pack_images: int
    packs_per_step: int
    strategy: Strategy = "pooled"
    too_long: TooLong = "drop"
    text_only_share: float = 0.0
    """Share of the samples that are shown without their pictures."""
    max_shift: Mapping[str, int] = field(default_factory=dict)
    """Category → pixels that its images are moved by at most, either way (augmentation)."""
    max_epochs: Mapping[str, float] = field(default_factory=dict)
    """Category → how often its samples are drawn at most."""
    by_samples: bool = False
    """Weights are shares of samples, not of labelled tokens."""
    one_turn: bool = False
    """Every turn is an item of its own, behind its own copy of the trunk (isolation by lengths wants it)."""
    seed: int = 0

    def items(self, encoded: Encoded, *, image: bool) -> Items:
        """The split's items in one form."""
        return build_items(
            encoded,
            image=image,
            pack_tokens=self.pack_tokens,
            pack_images=self.pack_images,
            too_long=self.too_long,
            one_turn=self.one_turn,
        )

    def pack(self, tokens_K: Longs, images_K: Longs) -> npt.NDArray[np.int32]:
        """Pack number of each item."""
        return pack(
            tokens_K,
            images_K,
            strategy=self.strategy,
            pack_tokens=self.pack_tokens,
            pack_images=self.pack_images,
        )


@dataclass(frozen=True)
class Part:
    """A phase as the plan sees it."""

    weights: Mapping[str, float]
    steps: int = 0
    tokens: int = 0
    """Useful tokens, where the length is not given in steps."""


def make_plan(encoded: Encoded, parts: Sequence[Part], how: Packing) -> Plan:
    """Draw and pack what the phases need, in their order.

    Raises:
        ConfigError: a mixture weights what is not there, a turn does not fit (`too_long = "error"`), or the
            samples that may be drawn (`max_epochs`) do not fill one step.
    """
    forms = {image: how.items(encoded, image=image) for image in (True, False)}
    drawing = Drawing(_pool(encoded, forms[True]), how.seed, dict(how.max_epochs))
    random = np.random.default_rng([how.seed, 3])
    tables, offset = list[Rows](), 0
    for phase, part in enumerate(parts):
        table = _phase(encoded, forms, drawing, part, how, random)
        table["phase"] = np.full(len(table["sample"]), phase, dtype=np.int16)
        table["pack"] = table["pack"] + offset
        offset = int(table["pack"][-1]) + 1
        tables.append(table)
    return Plan.of(_joined(tables), how.packs_per_step)


def pack_once(encoded: Encoded, samples: Sequence[int], how: Packing) -> list[Pack]:
    """Pack each of `samples` once, with its pictures; for validation."""
    items = how.items(encoded, image=True)
    chosen = _items_of(items, np.asarray(samples, dtype=np.int64))
    pack_K = how.pack(items.tokens_K[chosen], items.images_K[chosen])
    table = _table(items, chosen, pack_K, np.ones(len(chosen), np.bool_), np.zeros((len(chosen), 2), np.int8))
    table |= {"phase": np.zeros(len(pack_K), np.int16)}
    plan = Plan.of(_sorted(table, len(pack_K)), 1)
    return [plan.pack(number) for number in range(plan.num_packs)]


def _pool(encoded: Encoded, items: Items) -> Pool:
    """Samples that have at least one item, by category."""
    has_S = np.diff(items.item_S) > 0
    labelled_S = np.bincount(items.sample_K, items.labelled_K, len(encoded))
    samples = {
        name: np.flatnonzero(has_S & (encoded.category_S == number))
        for number, name in enumerate(encoded.categories)
    }
    kept = {name: chosen for name, chosen in samples.items() if len(chosen)}
    if lost := sorted(samples.keys() - kept.keys()):
        raise ConfigError(
            f"no turn of {', '.join(lost)} fits into a pack",
            where="pack_tokens and pack_images",
            fix="raise them, or set too_long to 'downscale' (fewer tiles)",
        )
    return Pool(kept, {name: float(labelled_S[chosen].mean()) for name, chosen in kept.items()})


def _phase(
    encoded: Encoded,
    forms: Mapping[bool, Items],
    drawing: Drawing,
    part: Part,
    how: Packing,
    random: np.random.Generator,
) -> Rows:
    """Rows of one phase, with packs numbered from 0: whole steps only."""
    whole = part.steps * how.packs_per_step
    wanted = part.tokens or whole * how.pack_tokens
    per_sample = _tokens_per_sample(forms[True], drawing.pool, part.weights, by_samples=how.by_samples)
    drawn = list[Rows]()
    number = int(wanted * OVERDRAW / per_sample) + how.packs_per_step
    while True:
        samples = drawing.draw(part.weights, number, by_samples=how.by_samples)
        drawn.append(_drawn(encoded, forms, samples, how, random))
        rows = _joined(drawn)
        rows["pack"] = _shuffled(how.pack(rows["tokens"], rows["images"]), how)
        packs = _needed(rows, part, how)
        if packs is None and not len(samples):
            packs = _all(rows, how)
        if packs is not None:
            drawing.give_back(_unseen(rows, packs))
            return _sorted(rows, packs)
        number = max(number // 10, how.packs_per_step)


def _shuffled(pack_K: npt.NDArray[np.int32], how: Packing) -> npt.NDArray[np.int32]:
    """Packs in random order within their pools: a packer puts alike ones side by side (the fullest, those
    with most images, hence of one category). A step must be a sample of the mixture, and so must what is cut
    off at the end."""
    packs = int(pack_K.max(initial=-1)) + 1
    window = max(1, round(packs * POOL / max(len(pack_K), 1)))
    random = np.random.default_rng([how.seed, 4])
    number_P = np.arange(packs)
    for first in range(0, packs, window):
        number_P[first : first + window] = random.permutation(number_P[first : first + window])
    return np.where(pack_K >= 0, number_P[pack_K], pack_K).astype(np.int32)


def _unseen(rows: Rows, packs: int) -> Longs:
    """Samples that were drawn, and of which the phase's packs hold nothing."""
    kept = (rows["pack"] >= 0) & (rows["pack"] < packs)
    behind = np.unique(rows["sample"][rows["pack"] >= packs]).astype(np.int64)
    return behind[~np.isin(behind, rows["sample"][kept])]


def _tokens_per_sample(items: Items, pool: Pool, weights: Mapping[str, float], *, by_samples: bool) -> float:
    """Mean tokens of a drawn sample."""
    tokens_S = np.bincount(items.sample_K, items.tokens_K, len(items.item_S) - 1)
    shares, tokens = list[float](), list[float]()
    for name, weight in weights.items():
        if weight > 0 and name in pool.samples:
            shares.append(weight if by_samples else weight / pool.mean_labelled[name])
            tokens.append(float(tokens_S[pool.samples[name]].mean()))
    return float(np.average(tokens, weights=shares)) if shares else 1.0


def _drawn(
    encoded: Encoded, forms: Mapping[bool, Items], samples_N: Longs, how: Packing, random: np.random.Generator
) -> Rows:
    """The items of drawn samples, in drawing order, each in the form in which it is shown."""
    blind_N = (random.random(len(samples_N)) < how.text_only_share) & encoded.plain_S[samples_N]
    blind_N &= np.diff(forms[False].item_S)[samples_N] > 0
    most_N = np.zeros(len(samples_N), dtype=np.int64)
    for name, most in how.max_shift.items():
        if name in encoded.categories:
            most_N[encoded.category_S[samples_N] == encoded.categories.index(name)] = most
    most_N[blind_N] = 0
    shift_N2 = random.integers(-most_N[:, None], most_N[:, None] + 1, size=(len(samples_N), 2)).astype(
        np.int8
    )
    pieces = list[Rows]()
    order = list[Longs]()
    for image, items in forms.items():
        places = np.flatnonzero(blind_N != image)
        chosen = _items_of(items, samples_N[places])
        times = np.diff(items.item_S)[samples_N[places]]
        order.append(np.repeat(places, times))
        shown = np.full(len(chosen), image) & (items.images_K[chosen] > 0)
        pieces.append(
            _table(
                items,
                chosen,
                np.zeros(len(chosen), np.int32),
                shown,
                np.repeat(shift_N2[places], times, axis=0),
            )
        )
    by_draw = np.argsort(np.concatenate(order), kind="stable")
    return {name: column[by_draw] for name, column in _joined(pieces).items()}


def _joined(tables: Sequence[Rows]) -> Rows:
    return {name: np.concatenate([each[name] for each in tables]) for name in tables[0]}


def _items_of(items: Items, samples_N: Longs) -> Longs:
    """Numbers of the items of samples, in the samples' order."""
    first_N, times_N = items.item_S[samples_N], np.diff(items.item_S)[samples_N]
    before = np.repeat(np.cumsum(times_N) - times_N, times_N)
    numbers: Longs = np.repeat(first_N, times_N) + np.arange(int(times_N.sum())) - before
    return numbers


def _table(
    items: Items,
    chosen: Longs,
    pack_K: npt.NDArray[np.int32],
    image_K: npt.NDArray[np.bool_],
    shift_K2: npt.NDArray[np.int8],
) -> Rows:
    return {
        "pack": pack_K,
        "sample": items.sample_K[chosen].astype(np.int32),
        "first_turn": items.first_turn_K[chosen],
        "num_turns": items.num_turns_K[chosen].astype(np.int32),
        "image": image_K,
        "tokens": items.tokens_K[chosen].astype(np.int32),
        "images": items.images_K[chosen].astype(np.int32),
        "labelled": items.labelled_K[chosen].astype(np.int32),
        "right": shift_K2[:, 0],
        "down": shift_K2[:, 1],
    }


def _needed(rows: Rows, part: Part, how: Packing) -> int | None:
    """How many packs the phase takes, or None where there are too few."""
    packs = int(rows["pack"].max(initial=-1)) + 1
    if part.steps:
        needed = part.steps * how.packs_per_step
    else:
        kept = rows["pack"] >= 0
        tokens_P = np.bincount(rows["pack"][kept], rows["tokens"][kept], packs)
        enough = int(np.searchsorted(np.cumsum(tokens_P), part.tokens)) + 1
        needed = -(-enough // how.packs_per_step) * how.packs_per_step
    return needed if needed <= packs else None


def _all(rows: Rows, how: Packing) -> int:
    """All whole steps that there are: every category has ended."""
    packs = int(rows["pack"].max(initial=-1)) + 1
    if packs < how.packs_per_step:
        raise ConfigError(
            f"{packs} packs can be made of what may still be drawn, and a step takes {how.packs_per_step}",
            where="pretrain.max_epochs",
            fix="raise max_epochs, or take fewer steps",
        )
    return packs // how.packs_per_step * how.packs_per_step


def _sorted(rows: Rows, packs: int) -> Rows:
    chosen = np.flatnonzero((rows["pack"] >= 0) & (rows["pack"] < packs))
    chosen = chosen[np.argsort(rows["pack"][chosen], kind="stable")]
    return {name: column[chosen] for name, column in rows.items()}
