"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL: pictures as patches at their own aspect, three position axes.

A row of the pixel store is a patch; the rows of a picture lie as the tower reads them, the patches of one
image token (2 × 2) next to each other. Positions are those of M-RoPE (arXiv:2409.12191, section 2.1): text
counts time, height and width up together, an image's tokens stand at their row and column, and what follows
goes on behind the larger of the two. A pack whose positions are counted as text's are loses that and still
trains (LLaMA-Factory #10283, NeMo Automodel #2172), so the positions are made here, sample by sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize
from transformers.vision_utils import get_vision_window_index

from components.errors import SourceError
from components.vlm.families.base import Family, Grid, Inputs, Pixels, shifted

SHRINK: Final = 3 / 4
"""Of a picture's area, at each step towards fewer image tokens."""
MAX_ASPECT: Final = 200
MERGERS: Final = ("merger", "deepstack_merger_list")


class QwenVLFamily(Family):
    """Pictures are resized to multiples of an image token's side, within `size` pixels of area; a grid is
    (rows, columns) of patches."""

    axes: ClassVar[int] = 3

    @property
    def side(self) -> int:
        """Pixels of a patch's side."""
        return int(self.processor.image_processor.patch_size)

    @property
    def merged(self) -> int:
        """Patches on the side of an image token."""
        return int(self.processor.image_processor.merge_size)

    def grid(self, width: int, height: int, *, shrink: int = 0) -> Grid:
        """As every family's.

        Raises:
            SourceError: one side is more than 200 times the other.
        """
        if not shrink:
            return self._cut(width, height, int(self.processor.image_processor.size["longest_edge"]))
        cuts = self._cuts(width, height)
        return cuts[min(shrink, len(cuts) - 1)]

    def num_shrinks(self, width: int, height: int) -> int:
        return len(self._cuts(width, height)) - 1

    def text(self, grid: Grid) -> str:
        return self.marker * (grid[0] * grid[1] // self.merged**2)

    def rows(self, grid: Grid) -> int:
        return grid[0] * grid[1]

    def pixels(self, image: Image.Image, grid: Grid) -> Pixels:
        (rows, columns), side = grid, self.side
        resample = Image.Resampling(int(self.processor.image_processor.resample))
        resized = np.asarray(image.resize((columns * side, rows * side), resample), dtype=np.uint8)
        return self._patches(resized.transpose(2, 0, 1), grid)

    def moved(self, rows_RCHW: Pixels, grid: Grid, right: int, down: int) -> Pixels:
        (rows, columns), side, merged = grid, self.side, self.merged
        blocks = rows_RCHW.reshape(rows // merged, columns // merged, merged, merged, 3, side, side)
        whole_CHW = blocks.transpose(4, 0, 2, 5, 1, 3, 6).reshape(3, rows * side, columns * side)
        return self._patches(shifted(whole_CHW, right, down), grid)

    def _patches(self, whole_CHW: Pixels, grid: Grid) -> Pixels:
        """Patches of a picture in the order in which the tower merges them."""
        (rows, columns), side, merged = grid, self.side, self.merged
        blocks = whole_CHW.reshape(3, rows // merged, merged, side, columns // merged, merged, side)
        return blocks.transpose(1, 4, 2, 5, 0, 3, 6).reshape(self.rows(grid), 3, side, side)

    def image_inputs(self, pixels_RCHW: torch.Tensor, grids: Sequence[Grid]) -> Inputs:
        images = self.processor.image_processor
        mean_C11, std_C11 = (
            torch.tensor(each, device=pixels_RCHW.device).view(3, 1, 1)
            for each in (images.image_mean, images.image_std)
        )
        values_RCHW = (pixels_RCHW.to(torch.float32) * float(images.rescale_factor) - mean_C11) / std_C11
        # A picture is a film of as many equal frames as the tower reads at once.
        frames_RCTHW = values_RCHW[:, :, None].expand(-1, -1, int(images.temporal_patch_size), -1, -1)
        grid_thw = [[1, *grid] for grid in grids]
        return {
            "pixel_values": frames_RCTHW.flatten(1),
            "image_grid_thw": torch.tensor(grid_thw, device=pixels_RCHW.device).view(-1, 3),
        }

    def positions(self, ids_N: npt.NDArray[np.int32], grids: Sequence[Grid]) -> npt.NDArray[np.int64]:
        pieces, token, position = list[npt.NDArray[np.int64]](), 0, 0
        for grid in grids:
            places = np.flatnonzero(ids_N[token:] == self.processor.image_token_id)
            assert len(places), f"{len(grids)} grids, and fewer images in the tokens"
            start = token + int(places[0])
            rows, columns = grid[0] // self.merged, grid[1] // self.merged
            pieces.append(_count(position, start - token))
            position += start - token
            pieces.append(position + np.indices((1, rows, columns)).reshape(self.axes, -1))
            token, position = start + rows * columns, position + max(rows, columns)
        pieces.append(_count(position, len(ids_N) - token))
        return np.concatenate(pieces, axis=1)

    def token_inputs(
        self, ids_N: npt.NDArray[np.int32], first_image: int
    ) -> dict[str, npt.NDArray[np.int64]]:
        """What tells the model's own forward, which is given no positions, where images stand. Without it
        Qwen2.5-VL counts them as text and says nothing (transformers 5.19)."""
        return {"mm_token_type_ids": (ids_N == self.processor.image_token_id).astype(np.int64)}

    def parts(self, model: PreTrainedModel) -> dict[str, tuple[nn.Module, ...]]:
        visual = model.model.visual
        tower = tuple(module for name, module in visual.named_children() if name not in MERGERS)
        return {
            "vision": tower,
            "connector": self._mergers(model),
            "language": (model.model.language_model, model.lm_head),
        }

    def tower(self, model: PreTrainedModel, images: Inputs) -> torch.Tensor:
        """What the mergers read: (R, 1, D) in the order of the pixel store.

        Qwen3-VL's deep mergers read earlier layers: those stand behind the last layer in D, so that all of
        the connector trains on features that were computed once.
        """
        visual, mergers = model.model.visual, self._mergers(model)
        read = dict[nn.Module, torch.Tensor]()

        def keep(merger: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
            read[merger] = arguments[0]

        hooks = [merger.register_forward_pre_hook(keep) for merger in mergers]
        try:
            visual(images["pixel_values"].to(visual.dtype), grid_thw=images["image_grid_thw"])
        finally:
            for hook in hooks:
                hook.remove()
        features_RD = torch.cat([read[merger] for merger in mergers], dim=-1)
        return self._unwindowed(visual, features_RD, images["image_grid_thw"])[:, None]

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
        seen: dict[str, Any] = dict(images or {})
        if features_RPD is not None:
            seen = {"mm_encoder_outputs": {"image": self._connected(model, features_RPD)}}
        output = model.model(
            input_ids=input_ids_BL, position_ids=position_ids_ABL, use_cache=False, **seen, **attention
        )
        return output.last_hidden_state  # type: ignore[no-any-return]

    def _cuts(self, width: int, height: int) -> list[Grid]:
        """The picture's grid, and those of less and less area that have fewer patches. (Less area is not
        always fewer patches: very flat pictures are widened to fill it.)"""
        cuts = [self.grid(width, height)]
        area = self.rows(cuts[0]) * self.side**2
        fewest = int(self.processor.image_processor.size["shortest_edge"])
        while area > fewest:
            area = max(math.floor(area * SHRINK), fewest)
            smaller = self._cut(width, height, area)
            if self.rows(smaller) < self.rows(cuts[-1]):
                cuts.append(smaller)
        return cuts

    def _cut(self, width: int, height: int, most: int) -> Grid:
        """Patches of a picture within so many pixels."""
        if max(width, height) > MAX_ASPECT * min(width, height):
            raise SourceError(
                f"a picture of {width} × {height} pixels is too flat for Qwen-VL",
                where="its processor, which refuses more than 200 : 1",
                fix="remove it in curation",
            )
        factor, fewest = self.side * self.merged, int(self.processor.image_processor.size["shortest_edge"])
        rows, columns = smart_resize(height, width, factor, min_pixels=fewest, max_pixels=most)
        return rows // self.side, columns // self.side

    def _mergers(self, model: PreTrainedModel) -> tuple[nn.Module, ...]:
        visual = model.model.visual
        return (visual.merger, *getattr(visual, "deepstack_merger_list", ()))

    def _connected(self, model: PreTrainedModel, features_RPD: torch.Tensor) -> BaseModelOutputWithPooling:
        mergers = self._mergers(model)
        read = features_RPD[:, 0].to(model.model.visual.dtype).chunk(len(mergers), dim=-1)
        last, *deep = [merger(each.contiguous()) for merger, each in zip(mergers, read, strict=True)]
        merged: Any = (last,)
        connected = BaseModelOutputWithPooling(pooler_output=merged)
        connected.deepstack_features = [(each,) for each in deep]
        return connected

    def _unwindowed(self, visual: Any, features_RD: torch.Tensor, grid_thw: torch.Tensor) -> torch.Tensor:
        """Rows in the order in which they came: Qwen2.5-VL's tower sorts image tokens by window."""
        if not hasattr(visual, "window_size"):
            return features_RD
        window_index, _ = get_vision_window_index(
            grid_thw, visual.spatial_merge_size, visual.window_size, visual.patch_size
        )
        tokens = features_RD.view(len(window_index), -1)
        return tokens[torch.argsort(window_index)].view_as(features_RD)


def _count(start: int, number: int) -> npt.NDArray[np.int64]:
    """Positions of text: the same on every axis."""
    counted = np.arange(start, start + number, dtype=np.int64)
    return np.broadcast_to(counted, (QwenVLFamily.axes, number))
