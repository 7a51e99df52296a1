"""Held-out questions with their images, tokenized and left-padded, for comparing runtimes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import Idefics3Processor

from components.artifacts import Dataset
from components.errors import OpsinError
from components.loader import Asked, read_samples
from components.vlm import prompt_inputs


@dataclass(frozen=True)
class Batch:
    """Prompts up to where the answer begins; B prompts, L tokens, N tiles in the order of the prompts."""

    input_ids: torch.Tensor
    """(B, L) int64, left-padded."""
    attention_mask: torch.Tensor
    """(B, L) int64."""
    pixel_values: torch.Tensor
    """(N, 3, height, width) fp32."""

    @property
    def size(self) -> int:
        return len(self.input_ids)

    @property
    def position_ids(self) -> torch.Tensor:
        """(B, L): positions count real tokens only."""
        return (self.attention_mask.cumsum(-1) - 1).clamp(min=0)


def draw(dataset: Dataset, processor: Idefics3Processor, count: int, seed: int) -> list[Batch]:
    """`count` prompts of the test split in one padded batch, and the first of them once more alone.

    Raises:
        OpsinError: the test split has no image that a first question is about.
        SourceError: a sample's texts have not as many places as it has pictures.
    """
    asked = [each for sample in read_samples(dataset, "test") if (each := sample.asked(0)).images]
    if not asked:
        raise OpsinError(
            "no held-out image to compare runtimes on",
            where=f"test split of {dataset.uri}",
            fix="add a source with a held-out group to [curate]",
        )
    asked.sort(key=lambda each: each.key)
    chosen = random.Random(seed).sample(asked, min(count, len(asked)))
    return [_batch(chosen, processor), _batch(chosen[:1], processor)]


def _batch(asked: Sequence[Asked], processor: Idefics3Processor) -> Batch:
    inputs = prompt_inputs(processor, [each.prompt() for each in asked])
    # Prompts with fewer tiles are padded with empty ones, which only transformers' models leave out.
    real_N = inputs["pixel_attention_mask"].flatten(0, 1).flatten(1).any(dim=1)
    return Batch(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        pixel_values=inputs["pixel_values"].flatten(0, 1)[real_N],
    )
