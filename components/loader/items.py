"""Items: turns of one sample that stand together behind their trunk, the unit that is packed.

A sample is one item, or several where its turns do not fit into one pack. Nothing is ever cut inside a turn
or an image: what does not fit by itself is dropped and counted, or refused.

Letters in array names: S samples, T turns, K items.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from components.errors import ConfigError
from components.loader.encode import Encoded

Longs = npt.NDArray[np.int64]
TooLong = Literal["drop", "downscale", "error"]


@dataclass(frozen=True)
class Items:
    """All items of a split in one form."""

    sample_K: Longs
    first_turn_K: Longs
    """Index into all turns of the split."""
    num_turns_K: Longs
    tokens_K: Longs
    """Trunk and turns."""
    images_K: Longs
    """Rows of the pixel store (tiles): what the vision tower is loaded with."""
    labelled_K: Longs
    item_S: Longs
    """A sample's first item (one more entry than samples: the end)."""
    dropped: tuple[str, ...]
    """Keys of samples that lost turns because those do not fit into a pack."""


def build_items(
    encoded: Encoded,
    *,
    image: bool,
    pack_tokens: int,
    pack_images: int,
    too_long: TooLong,
    one_turn: bool = False,
) -> Items:
    """Cut every sample into items that fit.

    Args:
        one_turn: Every turn is an item of its own.

    Raises:
        ConfigError: a turn does not fit and `too_long` is `error`; names the sample and what would fit.
    """
    turns = encoded.turns(image)
    length_T, trunk_S = np.diff(turns.start_T), turns.trunk_tokens_S
    sample_T = np.repeat(np.arange(len(encoded)), np.diff(encoded.turn_S))
    rows_S = np.diff(encoded.row_I[encoded.image_S]) if image else np.zeros(len(encoded), dtype=np.int64)
    fits_T = (
        (length_T + trunk_S[sample_T] <= pack_tokens) & (rows_S[sample_T] <= pack_images) & (length_T > 0)
    )
    lost = np.unique(sample_T[~fits_T & (length_T > 0)])
    if len(lost) and too_long == "error":
        raise _too_long(
            encoded,
            int(lost[0]),
            int((length_T + trunk_S[sample_T])[sample_T == lost[0]].max()),
            int(rows_S[lost[0]]),
            pack_tokens,
            pack_images,
        )
    group_T = _groups(length_T, trunk_S, sample_T, fits_T, encoded.turn_S, pack_tokens)
    kept = np.flatnonzero(fits_T)
    # A new item begins where the sample or the group within it changes, or where a dropped turn lay between.
    new = np.ones(len(kept), dtype=np.bool_)
    # A turn that brings its own pictures (behind an empty trunk) stands alone: items show theirs once.
    alone_T = (trunk_S == 0)[sample_T] | one_turn
    other = (np.diff(sample_T[kept]) > 0) | (np.diff(group_T[kept]) > 0) | (np.diff(kept) > 1)
    new[1:] = alone_T[kept][1:] | other
    first = kept[new]
    number_T = np.cumsum(new) - 1
    sample_K = sample_T[first]
    labelled_T = turns.labelled_T
    return Items(
        sample_K=sample_K,
        first_turn_K=first,
        num_turns_K=np.bincount(number_T, minlength=len(first)),
        tokens_K=trunk_S[sample_K] + np.bincount(number_T, length_T[kept], len(first)).astype(np.int64),
        images_K=rows_S[sample_K],
        labelled_K=np.bincount(number_T, labelled_T[kept], len(first)).astype(np.int64),
        item_S=np.searchsorted(sample_K, np.arange(len(encoded) + 1)),
        dropped=tuple(encoded.keys[sample] for sample in lost),
    )


def _groups(
    length_T: Longs, trunk_S: Longs, sample_T: Longs, fits_T: npt.NDArray[np.bool_], turn_S: Longs, most: int
) -> Longs:
    """Number of the item, within its sample, that each turn goes to: as many turns as fit, in order."""
    group_T = np.zeros(len(length_T), dtype=np.int64)
    whole_S = trunk_S + np.bincount(sample_T, length_T * fits_T, len(trunk_S)).astype(np.int64)
    for sample in np.flatnonzero(whole_S > most):
        group, tokens = 0, int(trunk_S[sample])
        for turn in range(int(turn_S[sample]), int(turn_S[sample + 1])):
            if not fits_T[turn]:
                continue
            if tokens + length_T[turn] > most:
                group, tokens = group + 1, int(trunk_S[sample])
            tokens += int(length_T[turn])
            group_T[turn] = group
    return group_T


def _too_long(
    encoded: Encoded, sample: int, tokens: int, rows: int, pack_tokens: int, pack_images: int
) -> ConfigError:
    what = f"{tokens} tokens" if tokens > pack_tokens else f"{rows} image tiles"
    room = f"{pack_tokens} tokens" if tokens > pack_tokens else f"{pack_images}"
    key = "pack_tokens" if tokens > pack_tokens else "pack_images"
    return ConfigError(
        f"a turn of {what} does not fit into a pack of {room}",
        where=f"{key}, sample {encoded.keys[sample]}",
        fix=f"set {key} to at least {tokens if tokens > pack_tokens else rows}, "
        "or too_long to 'downscale' (fewer tiles) or 'drop'",
    )
