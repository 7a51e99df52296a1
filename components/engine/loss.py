"""The training loss: cross-entropy of the labelled tokens of packed sequences.

Letters: B packs, L tokens, D width, V vocabulary, K labelled tokens.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

from components.loader import IGNORED, Batch
from components.vlm.families import Family


class PackedLoss(nn.Module):
    """The model and its loss as one module, so that data-parallel wrappers see a single forward."""

    def __init__(self, model: PreTrainedModel, family: Family) -> None:
        super().__init__()
        self.model, self.family = model, family

    def forward(self, batch: Batch) -> torch.Tensor:
        """Loss of each labelled token in nats, (K,), row by row."""
        logits_KV, targets_K = self.logits(batch)
        return functional.cross_entropy(logits_KV, targets_K, reduction="none")

    def logits(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and targets of the labelled tokens, (K, V) and (K,).

        The language head runs on labelled positions only: they are a sixth of the tokens.
        """
        hidden_BLD = self.family.hidden(
            self.model,
            batch.input_ids_BL,
            batch.position_ids_ABL,
            images=batch.images,
            features_RPD=batch.features_RPD,
            **batch.attention,
        )
        targets_BL = batch.labels_BL[:, 1:]
        labelled_BL = targets_BL != IGNORED
        logits_KV = self.model.lm_head(hidden_BLD[:, :-1][labelled_BL])
        return logits_KV.float(), targets_BL[labelled_BL]
