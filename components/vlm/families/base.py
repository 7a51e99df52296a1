"""What differs between families of vision-language models, behind one interface.

A family knows how a picture is cut (its grid), which text stands for it in a chat, which pixels the model
reads for it, at which positions its tokens stand, and how one packed forward is called. The loader, the
packer and the trainer know none of that.

Letters: R rows of the pixel store (tiles or patches: a family's smallest unit), C channels, H and W pixels,
N tokens of one sample, B packs, L tokens of a pack, A position axes, D width, P patches.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn
from transformers import PreTrainedModel

Grid: TypeAlias = tuple[int, int]
"""Rows and columns that a picture is cut into; (0, 0) where it is one tile."""
Pixels: TypeAlias = npt.NDArray[np.uint8]
Inputs: TypeAlias = dict[str, torch.Tensor]


class Family(ABC):
    """A processor, and how models of its family are fed packs.

    Args:
        processor: A Hugging Face processor with `tokenizer`, `image_processor` and a chat template.
    """

    axes: ClassVar[int] = 1
    """Axes of a token's position: 1, or more where images have two-dimensional positions."""

    def __init__(self, processor: Any) -> None:
        self.processor, self.tokenizer = processor, processor.tokenizer

    @property
    def marker(self) -> str:
        """What the chat template writes for an image: replaced by `text`."""
        return str(self.processor.image_token)

    @property
    def specials(self) -> tuple[str, ...]:
        """Tokens that a user's text must not hold: the tags of views and tiles too, which a processor may not
        have named."""
        added = self.tokenizer.added_tokens_decoder.values()
        return tuple(str(token) for token in added if token.special)

    @property
    def pad(self) -> int:
        """The padding token's id; never the end token's."""
        return int(self.tokenizer.pad_token_id)

    def chat(self, messages: Sequence[Mapping[str, Any]], *, generate: bool = False) -> str:
        """The chat as text, with one `marker` for each image."""
        text: str = self.processor.apply_chat_template(list(messages), add_generation_prompt=generate)
        return text

    def pictures(self, images: Sequence[Sequence[Image.Image]]) -> Sequence[Any]:
        """The images of several texts as the processor takes them: a list for each text."""
        return [list(each) for each in images]

    @abstractmethod
    def grid(self, width: int, height: int, *, shrink: int = 0) -> Grid:
        """How a picture of that size is cut, without looking at it.

        Args:
            width, height: Pixels.
            shrink: Steps towards fewer image tokens; `num_shrinks` is the last that changes anything.
        """

    @abstractmethod
    def num_shrinks(self, width: int, height: int) -> int:
        """How often `grid` can be shrunk for a picture of that size."""

    @abstractmethod
    def text(self, grid: Grid) -> str:
        """What stands for an image in the text: its tokens with their delimiters."""

    @abstractmethod
    def rows(self, grid: Grid) -> int:
        """Rows of the pixel store that an image takes."""

    @property
    @abstractmethod
    def side(self) -> int:
        """Pixels of the side of a row of the pixel store: of a tile, a crop or a patch."""

    @property
    def row_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of a row of the pixel store."""
        return 3, self.side, self.side

    @abstractmethod
    def pixels(self, image: Image.Image, grid: Grid) -> Pixels:
        """The image as the processor resizes and cuts it, before normalization: (R, C, H, W), 0 to 255."""

    @abstractmethod
    def moved(self, rows_RCHW: Pixels, grid: Grid, right: int, down: int) -> Pixels:
        """What `pixels` gave, as if the picture had been moved by so many pixels before it was cut.

        What comes in repeats the border.
        """

    @abstractmethod
    def image_inputs(self, pixels_RCHW: torch.Tensor, grids: Sequence[Grid]) -> Inputs:
        """The model's arguments for images whose rows follow one another (bytes in, normalized out)."""

    def positions(self, ids_N: npt.NDArray[np.int32], grids: Sequence[Grid]) -> npt.NDArray[np.int64]:
        """Positions of a sample's tokens as the model itself would number them when alone: (A, N).

        Args:
            grids: Of the images in the tokens, in order.
        """
        return np.arange(len(ids_N), dtype=np.int64)[None]

    def token_inputs(
        self, ids_N: npt.NDArray[np.int32], first_image: int
    ) -> dict[str, npt.NDArray[np.int64]]:
        """Arguments of `hidden` with one value for each token of a sample, (N,); most families have none.

        They are concatenated over a pack as the tokens are. Padding tokens are asked for as a sample of their
        own.

        Args:
            ids_N: All tokens of an item: the trunk and its turns.
            first_image: Number of its first image among those that `hidden` is given.
        """
        return {}

    @abstractmethod
    def parts(self, model: PreTrainedModel) -> dict[str, tuple[nn.Module, ...]]:
        """The model's modules by the names that a phase trains: `vision`, `connector`, `language`."""

    @abstractmethod
    def tower(self, model: PreTrainedModel, images: Inputs) -> torch.Tensor:
        """Features of the vision tower, before the connector: (R, P, D)."""

    @abstractmethod
    def hidden(
        self,
        model: PreTrainedModel,
        input_ids_BL: torch.Tensor,
        position_ids_ABL: torch.Tensor,
        *,
        images: Inputs | None = None,
        features_RPD: torch.Tensor | None = None,
        **attention: Any,
    ) -> torch.Tensor:
        """Last hidden states of packed sequences: (B, L, D).

        Args:
            images: What `image_inputs` gave, in the order of the packs' image tokens.
            features_RPD: What `tower` gave, in their stead: the tower does not run.
            attention: What keeps samples apart: `attention_mask` (B, 1, L, L), or FlashAttention's
                `cu_seq_lens_q` and its like.
        """


def shifted(pixels_CHW: Pixels, right: int, down: int) -> Pixels:
    """Pictures (..., H, W) moved by so many pixels; what comes in repeats the border."""
    *_, height, width = pixels_CHW.shape
    ys = np.clip(np.arange(height) - down, 0, height - 1)
    xs = np.clip(np.arange(width) - right, 0, width - 1)
    return pixels_CHW[..., ys[:, None], xs[None, :]]


def shifted_tiles(tiles_RCHW: Pixels, rows: int, columns: int, right: int, down: int) -> Pixels:
    """A picture moved that is cut into tiles, which come row by row."""
    _, channels, height, width = tiles_RCHW.shape
    tiled = tiles_RCHW.reshape(rows, columns, channels, height, width)
    whole_CHW = tiled.transpose(2, 0, 3, 1, 4).reshape(channels, rows * height, columns * width)
    cut = shifted(whole_CHW, right, down).reshape(channels, rows, height, columns, width)
    return cut.transpose(1, 3, 0, 2, 4).reshape(tiles_RCHW.shape)
