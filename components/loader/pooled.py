"""The packer that training uses: two budgets, bounded pools, even image load, whole pools at a time in numpy.

Items come in draw order and are packed pool by pool, so that packs keep that order up to about a pool. A
pool gets as many packs as its items need at least; what finds no room goes first into the next pool, and
only the last pool opens packs until nothing is left. In a pool:

1. Deal: in each round every pack takes one item, the largest to the emptiest (longest processing time
   first, a round at once); size is the share of both budgets together. Of a round's items, those with most
   images for their tokens go to the packs that have most room for images for theirs: that evens out the
   load of the vision encoder and keeps either budget from running out early.
2. Finish: the smallest items, `LATE` a pack, fill the packs chunk by chunk, so that all but the last chunk
   choose from many sizes. A pack takes the largest that fits until none does.

Measured on heavy-tailed lengths (`python -m benchmarks.packing`): packing without cross-contamination as in
Krell et al. 2021, arXiv:2107.02027, whose histogram packers know one budget; best fit decreasing as in TRL.

Shapes: N items, P packs, M items that wait for a pack.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Ints: TypeAlias = npt.NDArray[np.int64]

LATE = 4
"""Items a pack that are left for the finish. With 2, packs of three items keep twice the room; with 6, the
image load varies by half as much again."""
CHUNKS = 24
"""Of the finish. With 8, packs of three items keep 1.9% of their room instead of 0.8%; 200 take four times
the time and change little."""
STALLED = 0.1
"""A loop ends with the round in which at most this share of its packs found an item that fits."""
NEARLY_EQUAL = 0.9
"""Above this ratio of what the two budgets ask for, the finish too measures items by both: by the tighter
alone it opened 3.7% more packs than the least instead of 0.9%."""
CLOSE = 1.01
"""The last pool is packed again, one item at a time, where it takes more packs than this times the least."""
GOLDEN = (math.sqrt(5) - 1) / 2


def least_packs(tokens_N: Ints, images_N: Ints, *, pack_tokens: int, pack_images: int) -> float:
    """Packs that the items need at least, not rounded."""
    return max(int(tokens_N.sum()) / pack_tokens, int(images_N.sum()) / max(1, pack_images))


def pack_pooled(
    tokens_N: Ints, images_N: Ints, *, pack_tokens: int, pack_images: int, pool: int, ranks: int
) -> Ints:
    """Pack number of each item; every item fits a pack by itself.

    Args:
        pool: Items of a pool; the items are cut into pools of equal size, none larger than this.
        ranks: Consecutive packs go to as many ranks in turn; those of one turn get equal image load.
    """
    budgets = {"pack_tokens": pack_tokens, "pack_images": pack_images}
    pack_N = np.full(len(tokens_N), -1, np.int64)
    num_packs, waiting_M = 0, np.empty(0, np.int64)
    num_pools = math.ceil(len(tokens_N) / pool)
    for number, new in enumerate(np.array_split(np.arange(len(tokens_N)), max(1, num_pools)), start=1):
        item_M = np.concatenate([waiting_M, new])
        local_M = _pack_pool(
            tokens_N[item_M], images_N[item_M], num_first=len(waiting_M), last=number >= num_pools, **budgets
        )
        packed_M = local_M >= 0
        pack_N[item_M[packed_M]] = num_packs + local_M[packed_M]
        num_packs += int(local_M.max(initial=-1)) + 1
        waiting_M = item_M[~packed_M]
    images_P = np.bincount(pack_N, weights=images_N, minlength=num_packs).astype(np.float64)
    return _positions(images_P, window=math.ceil(num_packs / max(1, num_pools)), ranks=ranks)[pack_N]


def _pack_pool(
    tokens_N: Ints, images_N: Ints, *, num_first: int, last: bool, pack_tokens: int, pack_images: int
) -> Ints:
    """Pack number of each item of a pool; -1 for those that wait for the next, none if it is the `last`."""
    budgets = {"pack_tokens": pack_tokens, "pack_images": pack_images}
    least = least_packs(tokens_N, images_N, **budgets)
    if not last:
        return _fill(tokens_N, images_N, math.floor(least), num_first=num_first, **budgets)
    pack_N = np.full(len(tokens_N), -1, np.int64)
    left_M, num_packs = np.arange(len(tokens_N)), 0
    while len(left_M):
        more = max(1, math.ceil(least_packs(tokens_N[left_M], images_N[left_M], **budgets)))
        first = int(np.searchsorted(left_M, num_first))
        local_M = _fill(tokens_N[left_M], images_N[left_M], more, num_first=first, **budgets)
        pack_N[left_M] = np.where(local_M >= 0, num_packs + local_M, -1)
        left_M, num_packs = left_M[local_M < 0], num_packs + more
    if num_packs > CLOSE * math.ceil(least):
        one_by_one_N = pack_best_fit(tokens_N, images_N, **budgets)
        if one_by_one_N.max() + 1 < num_packs:
            return one_by_one_N
    return np.unique(pack_N, return_inverse=True)[1]


def _fill(
    tokens_N: Ints, images_N: Ints, num_packs: int, *, num_first: int, pack_tokens: int, pack_images: int
) -> Ints:
    """Pack number of each item that fits into so many packs, the first `num_first` before all others."""
    packs = _Packs(tokens_N, images_N, num_packs, pack_tokens=pack_tokens, pack_images=pack_images)
    if num_packs:
        packs.fill(num_first=num_first)
    return packs.pack_N


class _Packs:
    """A fixed number of packs, filled from the items of one pool."""

    def __init__(
        self, tokens_N: Ints, images_N: Ints, num_packs: int, *, pack_tokens: int, pack_images: int
    ) -> None:
        self.tokens_N, self.images_N = tokens_N, images_N
        self.pack_N = np.full(len(tokens_N), -1, np.int64)
        self.tokens_P = np.full(num_packs, pack_tokens, np.int64)
        """Room, like `images_P`."""
        self.images_P = np.full(num_packs, pack_images, np.int64)
        self.scale = (max(1, pack_images), pack_tokens)
        """Factors that make tokens and images shares of their budgets, in whole numbers."""

    def fill(self, *, num_first: int) -> None:
        """Place what fits, the first `num_first` items before all others."""
        all_P, both = np.arange(len(self.tokens_P)), self.scale
        left_M = self._repeat(np.arange(num_first), all_P, both, even=True)
        left_M = np.concatenate([left_M, np.arange(num_first, len(self.tokens_N))])
        left_M = self._repeat(left_M, all_P, both, even=True, until=LATE * len(all_P))
        tokens, images = self.tokens_N.sum() * both[0], self.images_N.sum() * both[1]
        tight = (1, 0) if tokens >= images else (0, 1)
        finish = both if min(tokens, images) > NEARLY_EQUAL * max(tokens, images) else tight
        fullest_P = np.argsort(self._room(all_P, finish), kind="stable")
        for chunk_P in np.array_split(fullest_P, min(CHUNKS, len(all_P))):
            left_M = self._repeat(left_M, chunk_P, finish)
        for weights in (tight, tight[::-1]):
            left_M = self._repeat(left_M, all_P, weights)

    def _room(self, which_P: Ints, weights: tuple[int, int]) -> Ints:
        return weights[0] * self.tokens_P[which_P] + weights[1] * self.images_P[which_P]

    def _repeat(
        self, left_M: Ints, which_P: Ints, weights: tuple[int, int], *, even: bool = False, until: int = 0
    ) -> Ints:
        """Rounds until few packs find an item or at most `until` items are left; gives the items left."""
        size_N = weights[0] * self.tokens_N + weights[1] * self.images_N
        left_M = left_M[np.argsort(size_N[left_M], kind="stable")]
        while len(left_M) > until:
            placed_M = self._round(left_M, size_N[left_M], which_P, weights, even=even)
            left_M = np.delete(left_M, placed_M)
            if len(placed_M) <= STALLED * min(len(which_P), len(left_M) + len(placed_M)):
                break
        return left_M

    def _round(
        self, left_M: Ints, size_M: Ints, which_P: Ints, weights: tuple[int, int], *, even: bool
    ) -> Ints:
        """Every pack takes the largest item that fits and that no emptier one took; gives their places.

        Args:
            size_M: Sizes of the items left, in ascending order.
            even: Pair the packs and the items of the round anew, by their share of images.
        """
        room_P = self._room(which_P, weights)
        emptiest_P = np.argsort(-room_P, kind="stable")
        turn_P = np.arange(len(which_P))
        largest_P = np.searchsorted(size_M, room_P[emptiest_P], side="right") - 1
        take_P = np.minimum.accumulate(largest_P + turn_P) - turn_P
        take_P = take_P[take_P >= 0]
        pack_P = which_P[emptiest_P[: len(take_P)]]
        if even:
            tokens, images = self.scale
            item_P = left_M[take_P]
            heavier_P = images * self.images_N[item_P] - tokens * self.tokens_N[item_P]
            roomier_P = images * self.images_P[pack_P] - tokens * self.tokens_P[pack_P]
            # stable sorts throughout: others break ties as the machine's vector unit happens to
            take_P = take_P[np.argsort(heavier_P, kind="stable")]
            pack_P = pack_P[np.argsort(roomier_P, kind="stable")]
        item_P = left_M[take_P]
        fits_P = self.tokens_N[item_P] <= self.tokens_P[pack_P]
        fits_P &= self.images_N[item_P] <= self.images_P[pack_P]
        item_P, pack_P = item_P[fits_P], pack_P[fits_P]
        self.pack_N[item_P] = pack_P
        self.tokens_P[pack_P] -= self.tokens_N[item_P]
        self.images_P[pack_P] -= self.images_N[item_P]
        return take_P[fits_P]


def pack_best_fit(tokens_N: Ints, images_N: Ints, *, pack_tokens: int, pack_images: int) -> Ints:
    """Pack number of each item: the longest first, to the fullest pack that has room, else to a new one."""
    pack_N = np.full(len(tokens_N), -1, np.int64)
    rooms, images_left = list[tuple[int, int]](), list[int]()
    for item in np.lexsort((-images_N, -tokens_N)).tolist():
        tokens, images = int(tokens_N[item]), int(images_N[item])
        at = bisect_left(rooms, (tokens, 0))
        while at < len(rooms) and images_left[rooms[at][1]] < images:
            at += 1
        if at == len(rooms):
            room, pack = pack_tokens, len(images_left)
            images_left.append(pack_images)
        else:
            room, pack = rooms.pop(at)
        pack_N[item] = pack
        images_left[pack] -= images
        insort(rooms, (room - tokens, pack))
    return pack_N


def _positions(images_P: npt.NDArray[np.float64], *, window: int, ranks: int) -> Ints:
    """New number of each pack: `ranks` neighbours have equal image load, and heavy ones lie spread out.

    Packs move only within a window. There they are sorted by load and cut into groups of `ranks`; the groups
    follow each other by the golden ratio, which spreads them evenly over the window, whatever its size.
    """
    number_P = np.arange(len(images_P))
    window = max(1, math.ceil(window / ranks)) * ranks
    by_load_P = np.lexsort((images_P, number_P // window))
    group_P = number_P % window // ranks
    turn_P = (group_P + 1) * GOLDEN % 1
    turn_P[len(images_P) // ranks * ranks :] = 1  # a group that is not full must stay at the end
    order_P = by_load_P[np.lexsort((number_P, turn_P, number_P // window))]
    position_P = np.empty_like(order_P)
    position_P[order_P] = number_P
    return position_P
