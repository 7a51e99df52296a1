"""The training loss: cross-entropy of the labelled tokens of packed sequences.

Letters: B packs, L tokens, D width, V vocabulary, K labelled tokens.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from transformers import Idefics3ForConditionalGeneration

from components.loader import IGNORED, Batch


class PackedLoss(nn.Module):
    """The model and its loss as one module, so that data-parallel wrappers see a single forward."""

    def __init__(self, model: Idefics3ForConditionalGeneration) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        position_ids: torch.Tensor,
        labels: torch.Tensor,
        pixel_values: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Loss of each labelled token in nats, (K,), row by row.

        The language head runs on labelled positions only: they are a sixth of the tokens.
        """
        output = self.model.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            pixel_values=pixel_values,
            use_cache=False,
        )
        hidden_BLD, targets_BL = output.last_hidden_state[:, :-1], labels[:, 1:]
        labelled_BL = targets_BL != IGNORED
        logits_KV = self.model.lm_head(hidden_BLD[labelled_BL])
        return functional.cross_entropy(logits_KV.float(), targets_BL[labelled_BL], reduction="none")


def labelled_categories(batch: Batch) -> torch.Tensor:
    """Category of each token that has a loss, (K,), in the order of `PackedLoss`."""
    return batch.category_BL[:, 1:][batch.inputs["labels"][:, 1:] != IGNORED]
