"""Resumption checkpoints: all that the coming steps depend on, whole or not at all.

    checkpoints/step-000120/
        model-00001-of-00002.safetensors, optimizer.safetensors
        state.json      progress, phase, random generator's name; written last, the directory is renamed after

Tensors are whole ones, not one process's shards: a run goes on with another number of processes.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from huggingface_hub import save_torch_state_dict
from safetensors.torch import load_file
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from components.artifacts import write_atomic

SHARD_SIZE = "2GB"
STATE = "state.json"
Tensors: TypeAlias = dict[str, torch.Tensor]
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)
"""Of a model sharded over processes: gathered from all of them."""


@dataclass(frozen=True)
class Saved:
    """What a checkpoint holds."""

    model: Tensors
    optimizer: Tensors
    state: dict[str, Any]


class Checkpoints:
    """The checkpoints of a run.

    Args:
        keep: Newest ones that stay.
    """

    def __init__(self, directory: Path, keep: int) -> None:
        self.directory, self.keep = directory, keep

    def save(self, step: int, saved: Saved) -> None:
        """Write a checkpoint, and remove what is too old."""
        target = self.directory / f"step-{step:09d}"
        partial = self.directory / f".{target.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for name, tensors in (("model", saved.model), ("optimizer", saved.optimizer)):
            if tensors:
                pattern = name + "{suffix}.safetensors"
                save_torch_state_dict(tensors, partial, filename_pattern=pattern, max_shard_size=SHARD_SIZE)
        write_atomic(partial / STATE, json.dumps(saved.state))
        shutil.rmtree(target, ignore_errors=True)
        os.replace(partial, target)
        for old in self.all()[: -self.keep]:
            shutil.rmtree(old)

    def all(self) -> list[Path]:
        """Whole checkpoints, oldest first."""
        return sorted(path.parent for path in self.directory.glob(f"step-*/{STATE}"))

    def latest(self) -> Saved | None:
        """The newest checkpoint, on the CPU."""
        whole = self.all()
        return load(whole[-1]) if whole else None


def load(path: Path) -> Saved:
    """A checkpoint, on the CPU."""

    def read(name: str) -> Tensors:
        tensors: Tensors = {}
        for file in sorted(path.glob(f"{name}*.safetensors")):
            tensors |= load_file(file)
        return tensors

    return Saved(read("model"), read("optimizer"), json.loads((path / STATE).read_text()))


def gather(
    model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], *, sharded: bool
) -> tuple[Tensors, Tensors]:
    """Weights and optimizer moments as whole tensors. Of a sharded model every process must ask.

    Returns:
        Weights by name (tied ones once), and moments by optimizer, parameter and name.
    """
    weights: dict[str, Any] = get_model_state_dict(model, options=WHOLE) if sharded else model.state_dict()
    moments: Tensors = {}
    for number, optimizer in enumerate(optimizers):
        for parameter, state in _states(model, optimizer, sharded=sharded).items():
            for name, value in state.items():
                moments[f"{number}/{parameter}/{name}"] = torch.as_tensor(value).detach().clone()
    return _once(weights), moments


def _states(
    model: nn.Module, optimizer: torch.optim.Optimizer, *, sharded: bool
) -> Mapping[str, Mapping[str, Any]]:
    """An optimizer's moments by the parameter's name in the model."""
    if sharded:
        whole: Any = get_optimizer_state_dict(model, optimizer, options=WHOLE)
        return whole.get("state", {})  # type: ignore[no-any-return]  # only the first process has it
    names = _names(model, optimizer)
    return {names[number]: state for number, state in optimizer.state_dict()["state"].items()}


def _names(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[str]:
    """Names of an optimizer's parameters, as it numbers them."""
    known = {parameter: name for name, parameter in model.named_parameters()}
    return [known[parameter] for group in optimizer.param_groups for parameter in group["params"]]


def _once(tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """Each storage under its first name."""
    seen, kept = set[int](), Tensors()
    for name, tensor in tensors.items():
        if tensor.numel() == 0 or tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            kept[name] = tensor.detach().contiguous()
    return kept


def restore_model(model: nn.Module, weights: Tensors, *, sharded: bool) -> None:
    """Put weights back."""
    if sharded:
        whole: dict[str, Any] = dict(weights)
        set_model_state_dict(model, whole, options=WHOLE)
        return
    missing, unexpected = model.load_state_dict(weights, strict=False)
    own = dict(model.state_dict(keep_vars=True))
    given = {own[name].data_ptr() for name in weights if name in own}
    lost = [name for name in missing if own[name].data_ptr() not in given]
    assert not (unexpected or lost), f"a checkpoint of another model: lacks {lost}, has {unexpected}"


def restore_optimizer(
    model: nn.Module, optimizer: torch.optim.Optimizer, number: int, moments: Tensors, *, sharded: bool
) -> None:
    """Put an optimizer's moments back."""
    states: dict[str, dict[str, torch.Tensor]] = {}
    for key, value in moments.items():
        owner, _, rest = key.partition("/")
        if int(owner) == number:
            parameter, _, name = rest.rpartition("/")
            states.setdefault(parameter, {})[name] = value
    if sharded:
        # Its groups, which every process has; a whole state is the first one's alone.
        whole: dict[str, Any] = dict(get_optimizer_state_dict(model, optimizer))
        whole["state"] = states
        set_optimizer_state_dict(model, optimizer, whole, options=WHOLE)
        return
    numbers = {name: place for place, name in enumerate(_names(model, optimizer))}
    by_number = {numbers[name]: state for name, state in states.items()}
    optimizer.load_state_dict({**optimizer.state_dict(), "state": by_number})
