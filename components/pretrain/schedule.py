"""Where a step lies, and the learning rate there: pure functions of the step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from components.config import Phase

FINAL_SHARE = 0.02
"""The cosine ends at this share of the peak learning rate."""


@dataclass(frozen=True)
class Place:
    """Where a global step lies."""

    step: int
    """Step within the phase, from 0."""
    index: int
    """Number of the phase."""


def place(lengths: Sequence[int], step: int) -> Place:
    """The phase that global `step` (from 0) belongs to.

    Args:
        lengths: Optimizer steps of each phase.
    """
    for index, length in enumerate(lengths):
        if step < length:
            return Place(step, index)
        step -= length
    raise IndexError("step lies behind the last phase")


def rate_share(phase: Phase, step: int, steps: int) -> float:
    """Share of the peak learning rate at a phase's `step` (from 0) of `steps`."""
    warmup = max(1, round(steps * phase.warmup_share))
    if step < warmup:
        return (step + 1) / warmup
    if phase.schedule == "constant":
        return 1.0
    if phase.schedule == "wsd":
        falling = max(1, min(steps - warmup, round(steps * phase.decay_share)))
        return max(min(1.0, (steps - step) / falling), FINAL_SHARE)
    cosine = (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))) / 2
    return FINAL_SHARE + (1 - FINAL_SHARE) * cosine
