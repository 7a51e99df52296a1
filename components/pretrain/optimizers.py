"""What is trained in a phase, and by which optimizer at which rate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import nn
from transformers import PreTrainedModel

from components.config import Phase
from components.pretrain.muon import muon_of
from components.vlm.families import Family

Group = dict[str, Any]
PEAK = "peak"
"""Key of a parameter group's own peak learning rate."""


def set_trainable(model: PreTrainedModel, family: Family, phase: Phase) -> None:
    """Freeze everything that `phase` does not train."""
    model.requires_grad_(False)
    for name, modules in family.parts(model).items():
        for module in modules:
            module.requires_grad_(name in phase.trainable)


def build_optimizers(
    model: PreTrainedModel,
    family: Family,
    phase: Phase,
    optimizer: Literal["adamw", "muon"],
    weight_decay: float,
    beside: Sequence[nn.Parameter] = (),
) -> list[torch.optim.Optimizer]:
    """What updates the trainable parameters; biases, norms and embeddings are not decayed.

    Args:
        beside: Trained with the model, at the phase's rate, and no part of it.
        optimizer: `adamw` for everything; or `muon` for the hidden layers' matrices (orthogonalized
            momentum, Jordan 2024), scaled so that one learning rate serves both (arXiv:2502.16982), and
            AdamW for embeddings, language head, patch convolution, norms and biases.
    """
    muon, adamw = list[Group](), list[Group]()
    seen = set[nn.Parameter]()
    for part, modules in family.parts(model).items():
        matrices, decayed, kept = list[nn.Parameter](), list[nn.Parameter](), list[nn.Parameter]()
        for module, parameter in _trainable(modules, seen):
            if parameter.ndim < 2 or isinstance(module, nn.Embedding):
                kept.append(parameter)
            elif optimizer == "muon" and parameter.ndim == 2 and module is not model.lm_head:
                matrices.append(parameter)
            else:
                decayed.append(parameter)
        rate = phase.learning_rates.get(part, phase.learning_rate)  # type: ignore[call-overload]
        shared = {"lr": rate, PEAK: rate}
        muon += [{"params": matrices, "weight_decay": weight_decay, **shared}] if matrices else []
        adamw += [{"params": decayed, "weight_decay": weight_decay, **shared}] if decayed else []
        adamw += [{"params": kept, "weight_decay": 0.0, **shared}] if kept else []
    if beside:
        rate = phase.learning_rate
        adamw.append({"params": list(beside), "weight_decay": weight_decay, "lr": rate, PEAK: rate})
    built = list[torch.optim.Optimizer]()
    if muon:
        kind = muon_of(muon[0]["params"][0].device)
        built.append(kind(muon, lr=phase.learning_rate, adjust_lr_fn="match_rms_adamw"))
    if adamw:
        built.append(torch.optim.AdamW(adamw, lr=phase.learning_rate, betas=(0.9, 0.95), fused=True))
    return built


def set_rate(optimizer: torch.optim.Optimizer, share: float) -> None:
    """Every group at this share of its own peak."""
    for group in optimizer.param_groups:
        group["lr"] = group[PEAK] * share


def _trainable(
    modules: tuple[nn.Module, ...], seen: set[nn.Parameter]
) -> Iterator[tuple[nn.Module, nn.Parameter]]:
    """Each trainable parameter once (a tied one belongs to where it comes first), with its module."""
    for part in modules:
        for module in part.modules():
            for parameter in module.parameters(recurse=False):
                if parameter.requires_grad and parameter not in seen:
                    seen.add(parameter)
                    yield module, parameter
