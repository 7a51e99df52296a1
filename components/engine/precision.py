"""How fast this machine is, and which precision this model trains fastest in here: measured, then chosen."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from components.artifacts import write_atomic
from components.config import Execution
from components.engine.loss import PackedLoss
from components.loader import Batch, Isolation
from components.stage import hardware
from components.vlm.attention import register_sdpa_fp32
from components.vlm.varlen import register_varlen

TIMED = 5
"""Timed forwards and backwards of each precision, in turn: a busy moment hits all. The fastest counts."""
HOPELESS = 4.0
"""Times the fastest's seconds from which a precision is not timed again: bfloat16 that a CPU emulates."""
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


@dataclass(frozen=True)
class Speed:
    """What this machine and model allow; measured before the first step."""

    flops_per_slot: float
    """Floating-point operations of a forward and backward, per token of a pack."""
    floor_flops: float
    """Operations a second of a plain matrix multiplication, in the precision that is trained in."""

    def utilization(self, slots: int, seconds: float) -> float:
        """Share of the floor that training reaches (model-FLOP utilization against this machine)."""
        return self.flops_per_slot * slots / max(seconds, 1e-9) / self.floor_flops


def candidates(device: torch.device, wanted: str, isolation: Isolation = "mask") -> list[Precision]:
    """Precisions that `wanted` (`auto`, `fp32`, `bf16`) allows on a device.

    Isolation by lengths is FlashAttention's on a GPU, in bfloat16, and opsin's own elsewhere.
    """
    lengths, in_fp32 = register_varlen(), register_sdpa_fp32()
    fp32, bf16 = [Precision("fp32", "sdpa")], [Precision("bf16", "sdpa")]
    if isolation == "varlen":
        fp32 = [Precision("fp32", lengths)]
        bf16 = [Precision("bf16", "flash_attention_2" if device.type == "cuda" else lengths)]
    elif device.type == "cpu":
        bf16 = [Precision("bf16", in_fp32), Precision("bf16", "sdpa")]
    return {"fp32": fp32, "bf16": bf16, "auto": fp32 + bf16}[wanted]


def choose_precision(
    module: PackedLoss,
    batch: Batch,
    wanted: str,
    execution: Execution,
    keep: Path,
    isolation: Isolation = "mask",
) -> tuple[Precision, dict[str, float]]:
    """The fastest precision, and the seconds of a forward and backward in each.

    The choice is kept with the run, which goes on as it began, and in the cache, for one of the same model,
    batch and machine.

    Args:
        batch: What the run trains on.
        wanted: `auto`, `fp32` or `bf16`.
        keep: File of the run.
    """
    device = batch.input_ids_BL.device
    allowed = candidates(device, wanted, isolation)
    parameters = [str(tuple(each.shape)) for each in module.parameters()]
    shown = batch.features_RPD is None
    like = [parameters, list(batch.input_ids_BL.shape), shown, [asdict(each) for each in allowed]]
    like += [str(device), platform.processor(), execution.threads, torch.__version__]
    name = hashlib.sha256(json.dumps([like, hardware()], sort_keys=True).encode()).hexdigest()[:16]
    cache = execution.cache / "precision" / f"{name}.json"
    for file in (keep, cache):
        if file.exists():
            write_atomic(keep, file.read_text())
            kept = json.loads(file.read_text())
            return Precision(**kept["chosen"]), kept["seconds"]
    timed = dict.fromkeys(allowed, math.inf)
    if len(allowed) > 1:
        with attention(module.model, allowed[0].attention):
            _seconds(module, batch, allowed[0])  # whatever only the first one costs
    for _ in range(TIMED if len(timed) > 1 else 1):
        fastest = min(timed.values())
        for each in allowed:
            if timed[each] > HOPELESS * fastest:
                continue
            with attention(module.model, each.attention):
                timed[each] = min(timed[each], _seconds(module, batch, each))
    chosen = min(timed, key=lambda each: timed[each])
    seconds = {f"{each.name}/{each.attention}": spent for each, spent in timed.items()}
    cache.parent.mkdir(parents=True, exist_ok=True)
    for file in (cache, keep):
        write_atomic(file, json.dumps({"chosen": asdict(chosen), "seconds": seconds}))
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
