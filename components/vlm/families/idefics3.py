"""Idefics3 and SmolVLM: tiles of one size with a global view, pixel shuffle, one position axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from components.vlm.families.base import Family, Grid, Inputs, Pixels, shifted, shifted_tiles

ONE_TILE: Grid = (0, 0)


class Idefics3Family(Family):
    """Pictures are resized to the longest edge of `size`, cut into tiles of `max_image_size`, and shown once
    more as a whole; without `do_image_splitting` they are one tile."""

    @property
    def side(self) -> int:
        """Pixels of a tile's side."""
        return int(self.processor.image_processor.max_image_size["longest_edge"])

    def grid(self, width: int, height: int, *, shrink: int = 0) -> Grid:
        images = self.processor.image_processor
        if not images.do_image_splitting:
            return ONE_TILE
        size = {"longest_edge": self._edge(shrink)}
        _, rows, columns = images.get_number_of_image_patches(height, width, {"size": size})
        return int(rows), int(columns)

    def num_shrinks(self, width: int, height: int) -> int:
        images = self.processor.image_processor
        if not images.do_image_splitting:
            return 0
        return math.ceil(int(images.size["longest_edge"]) / self.side) - 1

    def text(self, grid: Grid) -> str:
        rows, columns = grid
        text: str = self.processor.replace_image_token({"rows": [[rows]], "cols": [[columns]]}, 0)
        return text

    def rows(self, grid: Grid) -> int:
        return grid[0] * grid[1] + 1

    def pixels(self, image: Image.Image, grid: Grid) -> Pixels:
        if grid == ONE_TILE and image.size == (self.side, self.side):
            return np.asarray(image, dtype=np.uint8).transpose(2, 0, 1)[None].copy()
        size = {"longest_edge": self._edge(self._shrink(image, grid))}
        resized = self.processor.image_processor(
            image, do_rescale=False, do_normalize=False, return_tensors="np", size=size
        )
        values_RCHW = resized["pixel_values"][0]
        assert len(values_RCHW) == self.rows(grid), f"{image.size} gives {len(values_RCHW)} tiles, not {grid}"
        return values_RCHW.round().clip(0, 255).astype(np.uint8)  # type: ignore[no-any-return]

    def moved(self, rows_RCHW: Pixels, grid: Grid, right: int, down: int) -> Pixels:
        rows, columns = grid
        if grid == ONE_TILE:
            return shifted(rows_RCHW, right, down)
        tiles = shifted_tiles(rows_RCHW[:-1], rows, columns, right, down)
        whole = shifted(rows_RCHW[-1:], round(right / columns), round(down / rows))
        return np.concatenate([tiles, whole])

    def _edge(self, shrink: int) -> int:
        """The longest edge that pictures are brought to, so many tiles smaller."""
        return max(int(self.processor.image_processor.size["longest_edge"]) - shrink * self.side, self.side)

    def _shrink(self, image: Image.Image, grid: Grid) -> int:
        """How often the grid was shrunk."""
        for shrink in range(self.num_shrinks(*image.size) + 1):
            if self.grid(*image.size, shrink=shrink) == grid:
                return shrink
        raise AssertionError(f"a picture of {image.size} is never cut into {grid}")

    def image_inputs(self, pixels_RCHW: torch.Tensor, grids: Sequence[Grid]) -> Inputs:
        images = self.processor.image_processor
        mean_C11, std_C11 = (
            torch.tensor(each).view(3, 1, 1) for each in (images.image_mean, images.image_std)
        )
        values = (pixels_RCHW.to(torch.float32) * float(images.rescale_factor) - mean_C11) / std_C11
        return {"pixel_values": values[None]}

    def parts(self, model: PreTrainedModel) -> dict[str, tuple[nn.Module, ...]]:
        return {
            "vision": (model.model.vision_model,),
            "connector": (model.model.connector,),
            "language": (model.model.text_model, model.lm_head),
        }

    def tower(self, model: PreTrainedModel, images: Inputs) -> torch.Tensor:
        return model.model.vision_model(pixel_values=images["pixel_values"][0]).last_hidden_state  # type: ignore[no-any-return]

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
        if features_RPD is None and images is not None:
            features_RPD = self.tower(model, images)
        seen = {}
        if features_RPD is not None:
            connected = BaseModelOutputWithPooling(pooler_output=model.model.connector(features_RPD))
            seen = {"mm_encoder_outputs": {"image": connected}}
        output = model.model(
            input_ids=input_ids_BL, position_ids=position_ids_ABL[0], use_cache=False, **seen, **attention
        )
        return output.last_hidden_state  # type: ignore[no-any-return]
