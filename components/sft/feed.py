"""Packed batches for SFTTrainer, by their place in the plan.

The trainer's dataset holds nothing but the packs' numbers, in order, and the feed turns numbers into
tensors. So the trainer's own resumption, which skips the numbers it has done, resumes the stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets

from components.loader import Collator, Plan


class PackFeed:
    """Data collator: numbers of packs → the inputs of the model's forward, exactly as the loader made them.

    Args:
        plan: The run's packs.
        collator: Turns packs into tensors.
    """

    def __init__(self, plan: Plan, collator: Collator) -> None:
        self._plan, self._collator = plan, collator
        self.num_tokens = 0
        """Tokens handed out, padding left out."""
        self.num_padded = 0
        """Padding tokens handed out."""

    def __call__(self, rows: Sequence[dict[str, int]]) -> dict[str, Any]:
        batch = self._collator([self._plan.pack(row["pack"]) for row in rows])
        self.num_tokens += batch.num_tokens
        self.num_padded += batch.category_BL.numel() - batch.num_tokens
        return batch.forward_inputs()


def pack_numbers(num_packs: int) -> datasets.Dataset:
    """The trainer's dataset: rows `{"pack": 0}`, `{"pack": 1}`, …"""
    return datasets.Dataset.from_dict({"pack": list(range(num_packs))})
