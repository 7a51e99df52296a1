"""How fast this machine is, and which precision this model trains fastest in here: measured, then chosen."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from components.artifacts import write_atomic
from components.loader import Batch
from components.pretrain.loss import PackedLoss
from components.pretrain.meter import Speed
from components.vlm.attention import register_sdpa_fp32

TIMED = 5
"""Timed forwards and backwards of each precision, in turn: a busy moment hits all. The fastest counts."""
FLOOR_SIDE = 1024
FLOOR_RUNS = 12


@dataclass(frozen=True)
class Precision:
    """How a forward is computed; weights, gradients and optimizer are fp32 in every case."""

    name: str
    """`fp32` or `bf16`: of the matrix multiplications."""
    attention: str
    """transformers' name of the attention implementation."""

    @contextmanager
    def forward(self, device: torch.device) -> Iterator[None]:
        """Where a forward runs in this precision."""
        with torch.autocast(device.type, torch.bfloat16, enabled=self.name == "bf16"):
            yield


def candidates(device: torch.device, wanted: str) -> list[Precision]:
    """Precisions that `wanted` (`auto`, `fp32`, `bf16`) allows on a device."""
    register_sdpa_fp32()
    fp32, bf16 = [Precision("fp32", "sdpa")], [Precision("bf16", "sdpa")]
    if device.type == "cpu":
        bf16 = [Precision("bf16", "sdpa_fp32"), Precision("bf16", "sdpa")]
    return {"fp32": fp32, "bf16": bf16, "auto": bf16 + fp32}[wanted]


def choose_precision(
    module: PackedLoss, batch: Batch, wanted: str, cache: Path
) -> tuple[Precision, dict[str, float]]:
    """The fastest precision, and the seconds of a forward and backward in each.

    Args:
        batch: What the run trains on.
        cache: File that keeps the choice: a run that goes on, or one like it, trains as before.
    """
    device = batch.input_ids_BL.device
    if cache.exists():
        kept = json.loads(cache.read_text())
        return Precision(**kept["chosen"]), kept["seconds"]
    timed = dict.fromkeys(candidates(device, wanted), math.inf)
    for _ in range(TIMED if len(timed) > 1 else 1):
        for each in timed:
            with attention(module.model, each.attention):
                timed[each] = min(timed[each], _seconds(module, batch, each))
    chosen = min(timed, key=lambda each: timed[each])
    seconds = {f"{each.name}/{each.attention}": spent for each, spent in timed.items()}
    cache.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(cache, json.dumps({"chosen": asdict(chosen), "seconds": seconds}))
    return chosen, seconds


@contextmanager
def attention(model: PreTrainedModel, name: str) -> Iterator[None]:
    """The model with another attention implementation, and as it was afterwards."""
    before = model.config._attn_implementation
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def measure_speed(module: PackedLoss, batch: Batch, precision: Precision) -> Speed:
    """Operations of the model per token, and of a plain matrix multiplication per second."""
    device = batch.input_ids_BL.device
    counter = FlopCounterMode(display=False)
    with counter, precision.forward(device):
        module(batch).mean().backward()
    module.zero_grad()
    dtype = torch.bfloat16 if precision.name == "bf16" else torch.float32
    square = torch.randn(FLOOR_SIDE, FLOOR_SIDE, device=device).to(dtype)
    spent = []
    for _ in range(FLOOR_RUNS):
        begin = time.perf_counter()
        square @ square
        _wait(device)
        spent.append(time.perf_counter() - begin)
    return Speed(counter.get_total_flops() / batch.category_BL.numel(), 2 * FLOOR_SIDE**3 / min(spent))


def _seconds(module: PackedLoss, batch: Batch, precision: Precision) -> float:
    device = batch.input_ids_BL.device
    begin = time.perf_counter()
    with precision.forward(device):
        loss = module(batch).mean()
    loss.backward()
    _wait(device)
    module.zero_grad()
    return time.perf_counter() - begin


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
