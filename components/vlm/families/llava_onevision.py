"""LLaVA-OneVision: crops of the best-fitting resolution behind a view of the whole, without their padding.

How many tokens a picture has follows from its aspect, not only from its crops: the padding that crops hold is
cut out of the features (arXiv:2408.03326, section 3.1). So a grid is the picture's (height, width) in pixels,
and a shrunk picture is a smaller one.

Every picture of a sample is cut into crops, as the processor does with a flat list of images and vLLM does
when it serves; transformers' chat template, asked to tokenize, shows each of several as one crop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from transformers import PreTrainedModel
from transformers.image_processing_utils import select_best_resolution
from transformers.modeling_outputs import BaseModelOutputWithPooling

from components.errors import ConfigError
from components.vlm.families.base import Family, Grid, Inputs, Pixels, shifted, shifted_tiles


class LlavaOnevisionFamily(Family):
    """Pictures are fitted into the best of `image_grid_pinpoints`, padded and cut into crops of `size`."""

    @property
    def side(self) -> int:
        """Pixels of a crop's side."""
        return int(self.processor.image_processor.size["height"])

    def pictures(self, images: Sequence[Sequence[Image.Image]]) -> Sequence[Any]:
        """One list: of a list for each text the processor would show several as one crop each."""
        return [image for each in images for image in each]

    def grid(self, width: int, height: int, *, shrink: int = 0) -> Grid:
        if not shrink:
            return height, width
        cuts = self._cuts(width, height)
        return cuts[min(shrink, len(cuts) - 1)]

    def num_shrinks(self, width: int, height: int) -> int:
        return len(self._cuts(width, height)) - 1

    def text(self, grid: Grid) -> str:
        asked = {
            "batch_num_images": [1],
            "image_sizes": [list(grid)],
            "pixel_values": np.empty((1, 1, *self.row_shape), dtype=np.uint8),
        }
        text: str = self.processor.replace_image_token(asked, 0)
        return text

    def rows(self, grid: Grid) -> int:
        down, across = self._crops(grid)
        return 1 + down * across

    def pixels(self, image: Image.Image, grid: Grid) -> Pixels:
        images = self.processor.image_processor
        height, width = grid
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling(int(images.resample)))
        cut = images(image, do_rescale=False, do_normalize=False, return_tensors="np")
        values_RCHW = cut["pixel_values"][0]
        assert len(values_RCHW) == self.rows(grid), f"{image.size} gives {len(values_RCHW)} crops"
        return values_RCHW.round().clip(0, 255).astype(np.uint8)  # type: ignore[no-any-return]

    def moved(self, rows_RCHW: Pixels, grid: Grid, right: int, down: int) -> Pixels:
        rows, columns = self._crops(grid)
        whole = shifted(rows_RCHW[:1], round(right / columns), round(down / rows))
        return np.concatenate([whole, shifted_tiles(rows_RCHW[1:], rows, columns, right, down)])

    def image_inputs(self, pixels_RCHW: torch.Tensor, grids: Sequence[Grid]) -> Inputs:
        images = self.processor.image_processor
        mean_C11, std_C11 = (
            torch.tensor(each, device=pixels_RCHW.device).view(3, 1, 1)
            for each in (images.image_mean, images.image_std)
        )
        # The processor pads every picture to the most crops of any; the model takes them without as well.
        return {
            "pixel_values": (pixels_RCHW.to(torch.float32) * float(images.rescale_factor) - mean_C11)
            / std_C11,
            "image_sizes": torch.tensor(grids, device=pixels_RCHW.device).view(-1, 2),
        }

    def parts(self, model: PreTrainedModel) -> dict[str, tuple[nn.Module, ...]]:
        # The token at the end of an image's lines belongs to no module of its own.
        newline = nn.ParameterList([model.model.image_newline])
        return {
            "vision": (model.model.vision_tower,),
            "connector": (model.model.multi_modal_projector, newline),
            "language": (model.model.language_model, model.lm_head),
        }

    def tower(self, model: PreTrainedModel, images: Inputs) -> torch.Tensor:
        config, tower = model.config, model.model.vision_tower
        layers = tower(images["pixel_values"].to(tower.dtype), output_hidden_states=True).hidden_states
        wanted = config.vision_feature_layer
        chosen = [layers[layer] for layer in ([wanted] if isinstance(wanted, int) else wanted)]
        features_RPD = torch.cat(chosen, dim=-1)
        return features_RPD[:, 1:] if config.vision_feature_select_strategy == "default" else features_RPD

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
        """As every family's, but features come with `images` too: their `image_sizes` are needed (their
        pixels are not: `image_inputs` of no rows gives them)."""
        seen = {}
        if features_RPD is not None and images is None:
            raise ConfigError(
                "features of a LLaVA-OneVision tower come without the sizes of their images",
                where="the batch",
                fix="hand on `images` of `image_inputs`, of no pixels, beside the features",
            )
        if images is not None:
            features_RPD = self.tower(model, images) if features_RPD is None else features_RPD
            connected = self._connected(model, features_RPD, images["image_sizes"])
            seen = {"mm_encoder_outputs": {"image": connected}}
        output = model.model(
            input_ids=input_ids_BL, position_ids=position_ids_ABL[0], use_cache=False, **seen, **attention
        )
        return output.last_hidden_state  # type: ignore[no-any-return]

    def _connected(
        self, model: PreTrainedModel, features_RPD: torch.Tensor, sizes: torch.Tensor
    ) -> BaseModelOutputWithPooling:
        projector = model.model.multi_modal_projector
        projected_RPD = projector(features_RPD.to(projector.linear_1.weight.dtype))
        rows = [self.rows((height, width)) for height, width in sizes.tolist()]
        packed, _ = model.model.pack_image_features(
            projected_RPD.split(rows),
            sizes,
            image_newline=model.model.image_newline,
            vision_aspect_ratio=model.config.vision_aspect_ratio,
        )
        return BaseModelOutputWithPooling(pooler_output=packed)

    def _cuts(self, width: int, height: int) -> list[Grid]:
        """The picture, and it on fewer and fewer crops along its longer side, where that is fewer tokens. (It
        is not always: more than `anyres_max_9` crops are thinned out, which can leave fewer than 9 give.)"""
        cuts = [(height, width)]
        for crops in range(max(self._crops((height, width))) - 1, 0, -1):
            scale = crops * self.side / max(width, height)
            smaller = max(round(height * scale), 1), max(round(width * scale), 1)
            if scale < 1 and len(self.text(smaller)) < len(self.text(cuts[-1])):
                cuts.append(smaller)
        return cuts

    def _crops(self, grid: Grid) -> tuple[int, int]:
        """Crops from top to bottom and from left to right."""
        height, width = select_best_resolution(grid, self.processor.image_processor.image_grid_pinpoints)
        return height // self.side, width // self.side
