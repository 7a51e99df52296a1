"""Muon on processors without bf16 arithmetic.

torch's Muon orthogonalizes in bf16. Where the processor has no instructions for it, that is emulated: on an
AVX2 machine a step of the 3.6M-parameter model then took 5 s, and in fp32 a fraction of one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

NATIVE = ("amx_bf16", "avx512_bf16", "bf16")
"""Capabilities of a processor (x86, Arm) that multiplies bf16 matrices itself."""


class Fp32Muon(torch.optim.Muon):
    """torch's Muon with its iteration in the parameters' own precision; state and settings are the same."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state, gradient, momentum = self.state[parameter], parameter.grad, group["momentum"]
        assert gradient is not None
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        average = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        update = gradient.lerp(average, momentum) if group["nesterov"] else average
        update = orthogonal(update, group["ns_coefficients"], group["ns_steps"], group["eps"])
        assert group["adjust_lr_fn"] == "match_rms_adamw"
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(update, alpha=-group["lr"] * 0.2 * math.sqrt(max(parameter.shape)))


def orthogonal(matrix: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """About the nearest orthogonal matrix, by Newton and Schulz's iteration (quintic, Jordan 2024)."""
    a, b, c = coefficients
    tall = matrix.size(0) > matrix.size(1)
    near = matrix.T if tall else matrix
    near = near / near.norm().clamp(min=eps)
    for _ in range(steps):
        gram = near @ near.T
        near = torch.addmm(near, torch.addmm(gram, gram, gram, beta=b, alpha=c), near, beta=a)
    return near.T if tall else near


def muon_of(device: torch.device) -> type[torch.optim.Muon]:
    """torch's own where the device multiplies in bf16, else the one that does not."""
    emulated = device.type == "cpu" and not any(torch.cpu.get_capabilities().get(name) for name in NATIVE)
    return Fp32Muon if emulated else torch.optim.Muon
