"""Composed models: pictures and text as Idefics3's, with another model behind them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from transformers import PreTrainedModel

from components.vlm.families.base import Inputs
from components.vlm.families.idefics3 import Idefics3Family


class ComposedFamily(Idefics3Family):
    """`prefix` and `gated_cross_attention`; of the latter an image is one token in the text."""

    @property
    def gated(self) -> bool:
        return bool(self.processor.architecture == "gated_cross_attention")

    def token_inputs(
        self, ids_N: npt.NDArray[np.int32], first_image: int
    ) -> dict[str, npt.NDArray[np.int64]]:
        if not self.gated:
            return {}
        count_N = np.cumsum(ids_N == self.processor.image_token_id, dtype=np.int64)
        return {"image_index": np.where(count_N > 0, first_image + count_N - 1, -1)}

    def parts(self, model: PreTrainedModel) -> dict[str, tuple[nn.Module, ...]]:
        return {
            "vision": (model.model.vision_model,),
            "connector": (model.model.connector,),
            "language": (model.model.text_model, model.lm_head),
        }

    def tower(self, model: PreTrainedModel, images: Inputs) -> torch.Tensor:
        return model.model.tower(images["pixel_values"].flatten(0, 1))  # type: ignore[no-any-return]

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
        seen = (images or {}) if features_RPD is None else {"image_features": features_RPD}
        output = model.model(
            input_ids=input_ids_BL, position_ids=position_ids_ABL[0], use_cache=False, **seen, **attention
        )
        return output.last_hidden_state  # type: ignore[no-any-return]
