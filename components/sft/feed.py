"""Packed batches for SFTTrainer, by their place in the plan.

The trainer's dataset holds nothing but the packs' numbers, in order, and the feed turns numbers into
tensors. So the trainer's own resumption, which skips the numbers it has done, resumes the stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
from transformers import PreTrainedModel

from components.loader import Batch, Collator, Plan
from components.loader.features import compute_features
from components.vlm.families import Family
from components.vlm.features import take_features


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

    @property
    def family(self) -> Family:
        return self._collator.family

    def show_features(self, model: PreTrainedModel, path: Path, *, compute: bool) -> None:
        """Hand on what the frozen tower makes of the pictures, as the dataset delivers it, or computed once
        into a file where the plan shows more pictures than there are; `model` is made to take it."""
        encoded = self._collator.encoded
        often = int(self._plan.rows["images"].sum()) > int(encoded.row_I[-1])
        if self._collator.features is None and compute and often:
            self._collator.features = compute_features(encoded, self.family, model, path)
        if self._collator.features is not None:
            take_features(model)

    def batch(self, numbers: Sequence[int]) -> Batch:
        """These packs as tensors."""
        return self._collator([self._plan.pack(number) for number in numbers])

    def __call__(self, rows: Sequence[dict[str, int]]) -> dict[str, Any]:
        batch = self.batch([row["pack"] for row in rows])
        self.num_tokens += batch.num_tokens
        self.num_padded += batch.category_BL.numel() - batch.num_tokens
        return batch.forward_inputs()


def pack_numbers(num_packs: int) -> datasets.Dataset:
    """The trainer's dataset: rows `{"pack": 0}`, `{"pack": 1}`, …"""
    return datasets.Dataset.from_dict({"pack": list(range(num_packs))})
