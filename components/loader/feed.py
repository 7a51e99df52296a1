"""The feed: batches of a plan by number, made by worker processes ahead of the trainer.

What a step reads depends on its number only. So the stream resumes at any step, gives the same batches with
any number of workers, and the ranks of any number together read the same packs.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch.utils.data import DataLoader, Dataset

from components.errors import ConfigError
from components.loader.batches import Batch, Collator
from components.loader.plan import Plan


@dataclass(frozen=True)
class Step:
    """One rank's share of an optimizer step."""

    number: int
    batches: tuple[Batch, ...]
    """Forwards whose gradients add up."""
    labelled: int
    """Labelled tokens over all ranks and batches: what the summed loss is divided by."""


class Feed(Dataset[Step]):
    """Steps of a plan, by number.

    Args:
        packs_per_forward: Packs of a forward at most (gradients accumulate over the rest); 0: all at once.

    Raises:
        ConfigError: the packs of a step cannot be dealt evenly to so many ranks.
    """

    def __init__(
        self, plan: Plan, collate: Collator, *, rank: int = 0, ranks: int = 1, packs_per_forward: int = 0
    ) -> None:
        if plan.packs_per_step % ranks:
            raise ConfigError(
                f"{plan.packs_per_step} packs cannot be dealt evenly to {ranks} processes",
                where="packs_per_step",
                fix=f"set it to a multiple of {ranks}: it is the batch of all processes together",
            )
        self.plan, self.collate, self.rank, self.ranks = plan, collate, rank, ranks
        self.packs_per_forward = packs_per_forward or plan.packs_per_step

    def __len__(self) -> int:
        return self.plan.num_steps

    def __getitem__(self, number: int) -> Step:
        packs = self.plan.step(number, rank=self.rank, ranks=self.ranks)
        size = self.packs_per_forward
        batches = [self.collate(packs[first : first + size]) for first in range(0, len(packs), size)]
        return Step(number, tuple(batches), self.plan.labelled(number))

    def steps(self, numbers: Sequence[int], *, workers: int = 0) -> Iterator[Step]:
        """The steps of these numbers, in their order, prepared by so many processes ahead (0: none)."""
        loader: DataLoader[Step] = DataLoader(
            self,
            batch_size=None,
            sampler=numbers,
            num_workers=workers,
            prefetch_factor=2 if workers else None,
            worker_init_fn=_forget_the_parents_threads,
        )
        return iter(loader)


def _forget_the_parents_threads(worker: int) -> None:
    """Keep a forked worker from stopping, when it ends, threads that only its parent has.

    Prefect and anyio register such stops. They fail in a worker, which then ends with exit code 1, and
    PyTorch ends the training for it.
    """
    exits = threading._threading_atexits  # type: ignore[attr-defined] # Python names no other way
    exits[:] = [each for each in exits if each.func.__module__ == "concurrent.futures.thread"]
