"""What a run has done so far, and what it reports while it runs."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from components.engine import Speed
from components.loader import Batch


@dataclass
class Progress:
    """What a run has done so far, over all processes; part of the resumption checkpoint."""

    step: int = 0
    tokens: int = 0
    """Useful tokens: padding left out."""
    slots: int = 0
    """Tokens with padding."""
    samples: int = 0
    seconds: float = 0.0
    skipped: int = 0
    skipped_in_a_row: int = 0
    mean_norm: float = math.nan
    """Running mean of gradient norms, against which a spike is one."""
    first_loss: float = math.nan
    last_loss: float = math.nan

    @property
    def padding(self) -> float:
        return 1 - self.tokens / max(self.slots, 1)

    def state(self) -> dict[str, float | int]:
        return asdict(self)


@dataclass
class Window:
    """Sums over the steps since the last logged one."""

    names: tuple[str, ...]
    losses: torch.Tensor = field(init=False)
    counts: torch.Tensor = field(init=False)
    distances: dict[str, list[float]] = field(default_factory=dict)
    """Term of a teacher's → sum, and what it is a sum over."""
    tokens: int = 0
    slots: int = 0
    samples: int = 0
    begin: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.losses = torch.zeros(len(self.names), dtype=torch.float64)
        self.counts = torch.zeros(len(self.names), dtype=torch.float64)

    def state(self) -> dict[str, Any]:
        """Sums that a resumed run goes on with; its clock starts anew."""
        losses, counts = self.losses.tolist(), self.counts.tolist()
        return {"losses": losses, "counts": counts, "distances": self.distances}

    def load(self, state: dict[str, Any]) -> None:
        self.losses = torch.tensor(state["losses"], dtype=torch.float64)
        self.counts = torch.tensor(state["counts"], dtype=torch.float64)
        self.distances = state["distances"]

    def add_distance(self, term: str, total: float, number: float) -> None:
        """Add a teacher's term, summed over so many tokens or rows of pixels."""
        before = self.distances.get(term, [0.0, 0.0])
        self.distances[term] = [before[0] + total, before[1] + number]

    def add_losses(self, categories_K: torch.Tensor, losses_K: torch.Tensor) -> None:
        self.losses.index_add_(0, categories_K.cpu(), losses_K.detach().double().cpu())
        self.counts.index_add_(0, categories_K.cpu(), torch.ones(len(losses_K), dtype=torch.float64))

    def add_batch(self, batch: Batch) -> None:
        self.tokens += batch.num_tokens
        self.slots += batch.category_BL.numel()
        self.samples += batch.num_samples

    @property
    def loss(self) -> float:
        """Mean in nats per labelled token; NaN where nothing was trained on."""
        return float(self.losses.sum() / self.counts.sum())

    def metrics(self, speed: Speed) -> dict[str, float]:
        """Means over the window; losses in nats per labelled token."""
        seconds = time.monotonic() - self.begin
        by_category = {
            f"loss/{name}": float(self.losses[index] / self.counts[index])
            for index, name in enumerate(self.names)
            if self.counts[index]
        }
        return {
            "loss": self.loss,
            "tokens_per_s": self.tokens / max(seconds, 1e-9),
            "samples_per_s": self.samples / max(seconds, 1e-9),
            "padding": 1 - self.tokens / max(self.slots, 1),
            "utilization": speed.utilization(self.slots, seconds),
            **by_category,
            **{f"distill/{term}": total / max(number, 1) for term, (total, number) in self.distances.items()},
        }
