"""When each phase runs, what it trains, and at which learning rate: pure functions of the step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from transformers import Idefics3ForConditionalGeneration

from components.config import Phase

FINAL_SHARE = 0.02
"""The cosine ends at this share of the peak learning rate."""


@dataclass(frozen=True)
class Place:
    """Where a global step lies."""

    phase: Phase
    step: int
    """Step within the phase, from 0."""
    index: int
    """Number of the phase."""


def place(phases: Sequence[Phase], step: int) -> Place:
    """The phase that global `step` (from 0) belongs to."""
    for index, phase in enumerate(phases):
        if step < phase.steps:
            return Place(phase, step, index)
        step -= phase.steps
    raise IndexError("step lies behind the last phase")


def learning_rate(phase: Phase, step: int) -> float:
    """Linear warm-up, then half a cosine down to FINAL_SHARE of the peak."""
    warmup = max(1, round(phase.steps * phase.warmup_share))
    if step < warmup:
        return phase.learning_rate * (step + 1) / warmup
    share = (step - warmup) / max(1, phase.steps - warmup)
    cosine = (1 + math.cos(math.pi * share)) / 2
    return phase.learning_rate * (FINAL_SHARE + (1 - FINAL_SHARE) * cosine)


def parts(model: Idefics3ForConditionalGeneration) -> dict[str, tuple[nn.Module, ...]]:
    """The model's parts by the names that a phase's `trainable` uses."""
    return {
        "vision": (model.model.vision_model,),
        "connector": (model.model.connector,),
        "language": (model.model.text_model, model.lm_head),
    }


def set_trainable(model: Idefics3ForConditionalGeneration, phase: Phase) -> None:
    """Freeze everything that `phase` does not train."""
    for name, modules in parts(model).items():
        for module in modules:
            module.requires_grad_(name in phase.trainable)


def build_optimizers(
    model: Idefics3ForConditionalGeneration,
    phase: Phase,
    optimizer: Literal["adamw", "muon"],
    weight_decay: float,
) -> list[torch.optim.Optimizer]:
    """What updates the trainable parameters; biases, norms and embeddings are not decayed.

    Args:
        optimizer: `adamw` for everything; or `muon` for the hidden layers' matrices (orthogonalized
            momentum, Jordan 2024), scaled so that one learning rate serves both (arXiv:2502.16982), and
            AdamW for embeddings, language head, patch convolution, norms and biases.
    """
    matrices, decayed, kept = list[nn.Parameter](), list[nn.Parameter](), list[nn.Parameter]()
    for module, parameter in _trainable(model):
        if parameter.ndim < 2 or isinstance(module, nn.Embedding):
            kept.append(parameter)
        elif optimizer == "muon" and parameter.ndim == 2 and module is not model.lm_head:
            matrices.append(parameter)
        else:
            decayed.append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    rate, built = phase.learning_rate, list[torch.optim.Optimizer]()
    if matrices:
        built.append(
            torch.optim.Muon(matrices, lr=rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        )
    if groups:
        built.append(torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95), fused=True))
    return built


def _trainable(model: nn.Module) -> Iterator[tuple[nn.Module, nn.Parameter]]:
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            if parameter.requires_grad:
                yield module, parameter
