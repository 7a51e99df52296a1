"""Batches: packs → tensors, with the mask under which every turn is computed as if it stood alone.

A token attends to its own sample's prefix and to its own turn, causally; positions of a turn restart
right behind the prefix. Letters: B packs, L tokens of the longest pack, I images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from transformers import Idefics3Processor

from components.loader.encode import Encoded
from components.loader.packs import Pack

IGNORED = -100
PREFIX = -1
PADDING = -1
MULTIPLE = 8


@dataclass(frozen=True)
class Batch:
    """Packs as tensors."""

    inputs: dict[str, torch.Tensor]
    """What the model's forward takes: input_ids, position_ids, labels (B, L); attention_mask
    (B, 1, L, L), additive; pixel_values (1, I, C, H, W), absent when there is no image."""
    category_BL: torch.Tensor
    """Category of each token; -1 for padding."""
    num_tokens: int
    """Tokens that are not padding."""

    @property
    def padding(self) -> float:
        """Share of padding tokens."""
        return 1 - self.num_tokens / self.category_BL.numel()


class Collator:
    """Packs of `encoded` → Batch, with the processor's padding token and normalization."""

    def __init__(self, encoded: Encoded, processor: Idefics3Processor) -> None:
        images = processor.image_processor
        self.encoded, self.pad = encoded, int(processor.tokenizer.pad_token_id)
        self.rescale = float(images.rescale_factor)
        self.mean_C11 = torch.tensor(images.image_mean).view(3, 1, 1)
        self.std_C11 = torch.tensor(images.image_std).view(3, 1, 1)

    def __call__(self, packs: Sequence[Pack]) -> Batch:
        """Tensors of `packs`, padded at the end to the longest."""
        tokens = [sum(item.num_tokens for item in pack) for pack in packs]
        length = -(-max(tokens) // MULTIPLE) * MULTIPLE
        shape = (len(packs), length)
        ids_BL, labels_BL = np.full(shape, self.pad), np.full(shape, IGNORED)
        positions_BL, category_BL = np.zeros(shape, np.int64), np.full(shape, PADDING)
        # Padding tokens see only themselves: each is a segment of its own.
        segment_BL = np.tile(-1 - np.arange(length), (len(packs), 1))
        turn_BL = np.full(shape, PREFIX)
        for row, pack in enumerate(packs):
            self._fill(
                pack,
                ids_BL[row],
                labels_BL[row],
                positions_BL[row],
                category_BL[row],
                segment_BL[row],
                turn_BL[row],
            )
        inputs = {
            "input_ids": torch.from_numpy(ids_BL),
            "position_ids": torch.from_numpy(positions_BL),
            "attention_mask": block_mask(torch.from_numpy(segment_BL), torch.from_numpy(turn_BL)),
            "labels": torch.from_numpy(labels_BL),
        }
        images = [
            moved(self.encoded.images_SCHW[self.encoded.image_S[item.sample]], *item.shift)
            for pack in packs
            for item in pack
            if item.image
        ]
        if images:
            inputs["pixel_values"] = self.normalize(torch.from_numpy(np.stack(images)))[None]
        return Batch(inputs, torch.from_numpy(category_BL), sum(tokens))

    def normalize(self, images_ICHW: torch.Tensor) -> torch.Tensor:
        """Bytes → what the processor would have given."""
        return (images_ICHW.to(torch.float32) * self.rescale - self.mean_C11) / self.std_C11

    def _fill(
        self,
        pack: Pack,
        ids_L: np.ndarray,
        labels_L: np.ndarray,
        positions_L: np.ndarray,
        category_L: np.ndarray,
        segment_L: np.ndarray,
        turn_L: np.ndarray,
    ) -> None:
        at = 0
        for segment, item in enumerate(pack):
            turns = self.encoded.turns(item.image)
            prefix, start = len(turns.prefix), at
            ids_L[at : at + prefix] = turns.prefix
            positions_L[at : at + prefix] = np.arange(prefix)
            at += prefix
            for turn in range(item.first_turn, item.first_turn + item.num_turns):
                tokens = turns.tokens_N[turns.start_T[turn] : turns.start_T[turn + 1]]
                end, answer = at + len(tokens), turns.answer_T[turn]
                ids_L[at:end], turn_L[at:end] = tokens, turn
                positions_L[at:end] = prefix + np.arange(len(tokens))
                labels_L[at + answer : end] = tokens[answer:]
                at = end
            segment_L[start:at] = segment
            category_L[start:at] = self.encoded.category_S[item.sample]


def moved(image_CHW: npt.NDArray[np.uint8], right: int, down: int) -> npt.NDArray[np.uint8]:
    """The image, moved by so many pixels; what comes in repeats the border."""
    _, height, width = image_CHW.shape
    rows = np.clip(np.arange(height) - down, 0, height - 1)
    columns = np.clip(np.arange(width) - right, 0, width - 1)
    return image_CHW[:, rows[:, None], columns[None, :]]


def block_mask(segment_BL: torch.Tensor, turn_BL: torch.Tensor) -> torch.Tensor:
    """Additive mask (B, 1, L, L): causal, own sample only, and there only the prefix and the own turn."""
    length = segment_BL.shape[1]
    same = segment_BL[:, :, None] == segment_BL[:, None, :]
    seen = (turn_BL[:, None, :] == PREFIX) | (turn_BL[:, :, None] == turn_BL[:, None, :])
    allowed = same & seen & torch.ones(length, length, dtype=torch.bool).tril()
    lowest = torch.finfo(torch.float32).min
    return torch.where(allowed, 0.0, lowest)[:, None]
