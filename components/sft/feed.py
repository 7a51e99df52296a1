"""Packed batches for SFTTrainer, by their place in the stream.

The trainer's dataset holds nothing but the packs' numbers, in order, and the feed turns numbers into
tensors. So the trainer's own resumption, which skips the numbers it has done, resumes the stream.
"""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import torch

from components.loader import Collator, PackStream


class PackFeed:
    """Data collator: numbers of packs → the inputs of the model's forward, exactly as the loader made them.

    Args:
        stream: A stream that has not been read from.
        collator: Turns packs into tensors.
    """

    def __init__(self, stream: PackStream, collator: Collator) -> None:
        self._stream, self._collator, self._next = stream, collator, 0
        self.num_tokens = 0
        """Tokens handed out, padding left out."""
        self.num_padded = 0
        """Padding tokens handed out."""

    def __call__(self, rows: Sequence[dict[str, int]]) -> dict[str, torch.Tensor]:
        first, last = rows[0]["pack"], rows[-1]["pack"]
        assert last - first == len(rows) - 1 and first >= self._next, "packs are read once, in order"
        for _ in range(self._next, first):
            next(self._stream)
        batch = self._collator([next(self._stream) for _ in rows])
        self._next = last + 1
        self.num_tokens += batch.num_tokens
        self.num_padded += batch.category_BL.numel() - batch.num_tokens
        return batch.inputs


def pack_numbers(num_packs: int) -> datasets.Dataset:
    """The trainer's dataset: rows `{"pack": 0}`, `{"pack": 1}`, …"""
    return datasets.Dataset.from_dict({"pack": list(range(num_packs))})
