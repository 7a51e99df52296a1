"""Which items stand in one sequence: packing under two budgets, tokens and images.

    pack_N = pack(tokens_N, images_N, pack_tokens=4096, pack_images=36)
    reports = compare_strategies(tokens_N, images_N, pack_tokens=4096, pack_images=36, pool=16384)

`pooled` (`components/loader/pooled.py`) is what training uses. The others are the five stages of nanoVLM's
efficient multimodal data pipeline (the "mmdp" article, also in the book Vision Language Models), here to be
compared with on a run's own data. None cuts an item, and attention between the items of a pack is masked
(Krell et al. 2021, arXiv:2107.02027).

Shapes: N items in the order in which they are drawn, P packs.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from components.errors import ConfigError
from components.loader.pooled import Ints, least_packs, pack_pooled

Strategy: TypeAlias = Literal[
    "pad", "constrained_pad", "next_fit", "greedy_knapsack", "balanced_knapsack", "pooled"
]
POOL = 16384
PADDED_BATCH = 16
"""Samples of a batch that is padded to its longest, as in mmdp."""


@dataclass(frozen=True)
class PackingReport:
    """What a strategy made of some items."""

    strategy: str
    packs: int
    dropped: int
    """Items in no pack."""
    padding: float
    """Share of the slots that hold no token. A pack has `pack_tokens` slots; with `pad`, every sample has
    as many as the longest of its batch of `PADDED_BATCH` consecutive samples."""
    bound_ratio: float
    """Packs by the least that could hold the packed items: max(⌈tokens/budget⌉, ⌈images/budget⌉)."""
    image_variation: float
    """Standard deviation by mean of the images of a pack; 0 without images."""
    token_variation: float
    cap_violations: int
    """Packs over a budget, of tokens or images."""
    seconds: float
    samples_per_s: float


def pack(
    tokens_N: npt.NDArray[np.integer[Any]],
    images_N: npt.NDArray[np.integer[Any]],
    *,
    strategy: Strategy = "pooled",
    pack_tokens: int,
    pack_images: int,
    pool: int = POOL,
    ranks: int = 1,
) -> npt.NDArray[np.int32]:
    """Pack number of each item (N,), dense from 0; -1 for an item that the strategy drops.

    Args:
        pool: Items that are packed together; with `pooled`, what finds no room goes into the next pool.
        ranks: Consecutive packs are dealt to as many ranks in turn; `pooled` evens out their image load.

    Raises:
        ConfigError: an item exceeds a budget by itself (`pad` lets it, `constrained_pad` drops it).
    """
    assert tokens_N.shape == images_N.shape
    if strategy == "pad":
        return np.arange(len(tokens_N), dtype=np.int32)
    fits_N = (tokens_N <= pack_tokens) & (images_N <= pack_images)
    if strategy == "constrained_pad":
        return np.where(fits_N, np.cumsum(fits_N) - 1, -1).astype(np.int32)
    if not fits_N.all():
        item = int(np.argmin(fits_N))
        raise _too_large(item, int(tokens_N[item]), int(images_N[item]), pack_tokens, pack_images)
    items = tokens_N.astype(np.int64), images_N.astype(np.int64)
    if strategy == "pooled":
        pooled_N = pack_pooled(
            *items, pack_tokens=pack_tokens, pack_images=pack_images, pool=pool, ranks=ranks
        )
        return pooled_N.astype(np.int32)
    if strategy == "next_fit":
        return _next_fit(*items, pack_tokens, pack_images).astype(np.int32)
    knapsacks = _greedy_knapsack if strategy == "greedy_knapsack" else _balanced_knapsack
    return _in_buffers(knapsacks, *items, pack_tokens, pack_images, pool).astype(np.int32)


def _too_large(item: int, tokens: int, images: int, pack_tokens: int, pack_images: int) -> ConfigError:
    return ConfigError(
        f"item {item} of {tokens} tokens and {images} images does not fit into a pack of "
        f"{pack_tokens} tokens and {pack_images} images",
        where=f"pack_tokens and pack_images, item {item}",
        fix=f"set pack_tokens to at least {tokens} and pack_images to at least {images}, or drop the item",
    )


def _next_fit(tokens_N: Ints, images_N: Ints, pack_tokens: int, pack_images: int) -> Ints:
    """Append to the pack at hand until an item does not fit; then close it."""
    pack_N = np.empty(len(tokens_N), np.int64)
    number, tokens_left, images_left = -1, -1, -1
    for item, (tokens, images) in enumerate(zip(tokens_N.tolist(), images_N.tolist(), strict=True)):
        if tokens > tokens_left or images > images_left:
            number, tokens_left, images_left = number + 1, pack_tokens, pack_images
        tokens_left, images_left = tokens_left - tokens, images_left - images
        pack_N[item] = number
    return pack_N


Knapsacks: TypeAlias = Callable[[Ints, Ints, int, int], Ints]


def _in_buffers(
    knapsacks: Knapsacks, tokens_N: Ints, images_N: Ints, pack_tokens: int, pack_images: int, size: int
) -> Ints:
    """Pack one buffer of `size` items after the other."""
    pack_N, num_packs = np.empty(len(tokens_N), np.int64), 0
    for start in range(0, len(tokens_N), size):
        buffer = slice(start, start + size)
        local_N = knapsacks(tokens_N[buffer], images_N[buffer], pack_tokens, pack_images)
        pack_N[buffer] = num_packs + np.unique(local_N, return_inverse=True)[1]
        num_packs = int(pack_N[buffer].max()) + 1
    return pack_N


def _greedy_knapsack(tokens_N: Ints, images_N: Ints, pack_tokens: int, pack_images: int) -> Ints:
    """First fit decreasing: the longest first, into the first pack that has room."""
    pack_N, num_packs = np.empty(len(tokens_N), np.int64), 0
    tokens_P, images_P = np.full(len(tokens_N), pack_tokens), np.full(len(tokens_N), pack_images)
    for item in np.argsort(-tokens_N, kind="stable"):
        open_P = slice(0, num_packs + 1)
        number = int(np.argmax((tokens_P[open_P] >= tokens_N[item]) & (images_P[open_P] >= images_N[item])))
        num_packs = max(num_packs, number + 1)
        tokens_P[number] -= tokens_N[item]
        images_P[number] -= images_N[item]
        pack_N[item] = number
    return pack_N


def _balanced_knapsack(tokens_N: Ints, images_N: Ints, pack_tokens: int, pack_images: int) -> Ints:
    """The longest first, into the least loaded of ⌈tokens/budget⌉ packs; a new one where none has room."""
    pack_N = np.empty(len(tokens_N), np.int64)
    packs = [(0, number) for number in range(math.ceil(int(tokens_N.sum()) / pack_tokens))]
    images = [0] * len(packs)
    for item in np.argsort(-tokens_N, kind="stable").tolist():
        tokens, more = int(tokens_N[item]), int(images_N[item])
        passed = []
        while packs and packs[0][0] + tokens <= pack_tokens and images[packs[0][1]] + more > pack_images:
            passed.append(heapq.heappop(packs))
        if packs and packs[0][0] + tokens <= pack_tokens:
            load, number = heapq.heappop(packs)
        else:
            load, number = 0, len(images)
            images.append(0)
        images[number] += more
        pack_N[item] = number
        for each in (*passed, (load + tokens, number)):
            heapq.heappush(packs, each)
    return pack_N


def measure(
    tokens_N: npt.NDArray[np.integer[Any]],
    images_N: npt.NDArray[np.integer[Any]],
    pack_N: npt.NDArray[np.integer[Any]],
    *,
    strategy: str,
    pack_tokens: int,
    pack_images: int,
    seconds: float,
) -> PackingReport:
    """What packing into `pack_N` comes to; `seconds` is what it took."""
    kept_N = pack_N >= 0
    tokens, images = tokens_N[kept_N].astype(np.int64), images_N[kept_N].astype(np.int64)
    tokens_P, images_P = (_loads(each, pack_N[kept_N]) for each in (tokens, images))
    least = math.ceil(least_packs(tokens, images, pack_tokens=pack_tokens, pack_images=pack_images))
    if strategy == "pad":
        longest = (
            np.maximum.reduceat(tokens, np.arange(0, len(tokens), PADDED_BATCH)) if len(tokens) else tokens
        )
        slots = int(np.repeat(longest, PADDED_BATCH)[: len(tokens)].sum())
    else:
        slots = len(tokens_P) * pack_tokens
    return PackingReport(
        strategy=strategy,
        packs=len(tokens_P),
        dropped=int(np.count_nonzero(~kept_N)),
        padding=1 - int(tokens.sum()) / slots if slots else 0.0,
        bound_ratio=len(tokens_P) / max(1, least),
        image_variation=_variation(images_P),
        token_variation=_variation(tokens_P),
        cap_violations=int(np.count_nonzero((tokens_P > pack_tokens) | (images_P > pack_images))),
        seconds=seconds,
        samples_per_s=len(tokens_N) / seconds if seconds else 0.0,
    )


def _loads(sizes_N: Ints, pack_N: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float64]:
    return np.bincount(pack_N, weights=sizes_N).astype(np.float64)


def _variation(load_P: npt.NDArray[np.float64]) -> float:
    return float(load_P.std() / load_P.mean()) if load_P.any() else 0.0


def compare_strategies(
    tokens_N: npt.NDArray[np.integer[Any]],
    images_N: npt.NDArray[np.integer[Any]],
    *,
    pack_tokens: int,
    pack_images: int,
    pool: int,
) -> list[PackingReport]:
    """A report of every strategy on the same items."""
    budgets = {"pack_tokens": pack_tokens, "pack_images": pack_images}
    reports = []
    for strategy in get_args(Strategy):
        begin = time.perf_counter()
        pack_N = pack(tokens_N, images_N, strategy=strategy, pool=pool, **budgets)
        seconds = time.perf_counter() - begin
        reports.append(measure(tokens_N, images_N, pack_N, strategy=strategy, seconds=seconds, **budgets))
    return reports
