"""Held-out questions with their images, tokenized and left-padded, for comparing runtimes."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from transformers import Idefics3Processor

from components.artifacts import Dataset
from components.errors import OpsinError
from components.loader import Sample, read_samples
from components.vlm import messages


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
        OpsinError: the test split has no image.
    """
    samples = [sample for sample in read_samples(dataset, "test") if sample.image is not None]
    if not samples:
        raise OpsinError(
            "no held-out image to compare runtimes on",
            where=f"test split of {dataset.uri}",
            fix="add a source with a held-out group to [curate]",
        )
    samples.sort(key=lambda sample: sample.key)
    chosen = random.Random(seed).sample(samples, min(count, len(samples)))
    return [_batch(chosen, processor), _batch(chosen[:1], processor)]


def _batch(samples: Sequence[Sample], processor: Idefics3Processor) -> Batch:
    images = [[Image.open(io.BytesIO(sample.image)).convert("RGB")] for sample in samples if sample.image]
    texts = [
        processor.apply_chat_template(messages(sample.turns[0].question), add_generation_prompt=True)
        for sample in samples
    ]
    inputs = processor(text=texts, images=images, padding=True, padding_side="left", return_tensors="pt")
    # Prompts with fewer tiles are padded with empty ones, which only transformers' models leave out.
    real_N = inputs["pixel_attention_mask"].flatten(0, 1).flatten(1).any(dim=1)
    return Batch(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        pixel_values=inputs["pixel_values"].flatten(0, 1)[real_N],
    )
