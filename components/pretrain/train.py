"""The training loop: steps of a plan → loss → optimizer, with a resumption checkpoint every few seconds.

A killed run that is started again ends with the same weights as one that was not, to the last bit on one
process: the checkpoint holds all that the coming steps depend on (weights, moments, the step's number, which
names what is read, the guard's memory, the random generator).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch.distributed.fsdp import register_fsdp_forward_method
from transformers import PreTrainedModel

from components.config import PretrainConfig
from components.distillation import FEATURE_TERMS
from components.engine import Precision, Speed
from components.engine.loss import PackedLoss
from components.gates.result import GateResult
from components.loader import Feed, Step
from components.pretrain.checkpoints import (
    Checkpoints,
    Saved,
    Tensors,
    gather,
    restore_model,
    restore_optimizer,
)
from components.pretrain.distill import DistilledLoss, Lesson, Losses
from components.pretrain.meter import Progress, Window
from components.pretrain.optimizers import build_optimizers, set_rate, set_trainable
from components.pretrain.schedule import place, rate_share
from components.progress import Bar
from components.stage import Run
from components.vlm.families import Family

NORM_MEMORY = 0.98
"""Of the running mean of gradient norms: some fifty steps."""
SAVING_SHARE = 0.05
"""Of the time that resumption checkpoints may take, where one takes longer than `NEGLIGIBLE_S`."""
NEGLIGIBLE_S = 1.0
NORMS_BEFORE_GUARD = 20
"""Steps of a phase before a norm can be a spike: the first ones are large by nature."""


@dataclass(frozen=True)
class Machine:
    """How this run computes: measured or chosen before its first step, and kept with the run."""

    accelerator: Accelerator
    precision: Precision
    speed: Speed

    @property
    def sharded(self) -> bool:
        """Whether weights are spread over processes."""
        return bool(self.accelerator.distributed_type == DistributedType.FSDP)


class Trainer:
    """One pretraining run.

    Args:
        feed: This process's share of the steps.
        names: Categories, as batches number them.
        after_step: Called with the number of steps done, every step: what is measured meanwhile.
        lesson: A teacher that phases learn from.
    """

    def __init__(
        self,
        run: Run,
        config: PretrainConfig,
        model: PreTrainedModel,
        family: Family,
        feed: Feed,
        names: tuple[str, ...],
        machine: Machine,
        after_step: Callable[[int], None] = lambda step: None,
        lesson: Lesson | None = None,
    ) -> None:
        self.run, self.config, self.machine = run, config, machine
        self.accelerator = machine.accelerator
        self.model, self.family, self.feed, self.names = model, family, feed, names
        self.after_step, self.lesson = after_step, lesson
        self.lengths = [feed.plan.steps_of(index) for index in range(len(config.phases))]
        self.total = sum(self.lengths)
        self.progress = Progress()
        self.checkpoints = Checkpoints(run.scratch / "checkpoints", config.keep_checkpoints)
        self.loss = self._build_loss()
        self.module: torch.nn.Module = self.loss
        self.optimizers: Sequence[Any] = ()
        self.phase = -1

    def fit(self) -> Progress:
        """Train to the last step, from the last resumption checkpoint if there is one.

        Raises:
            GateFailed: too many steps in a row were skipped.
        """
        resumed = self.checkpoints.latest()
        if resumed is not None:
            self.progress = Progress(**resumed.state["progress"])
            if not self.machine.sharded:
                restore_model(self.loss, resumed.model, sharded=False)
        if self.accelerator.is_main_process:
            self.run.forget_steps_after(self.progress.step)
        window, saved, pause = Window(self.names), time.monotonic(), 0.0
        if resumed is not None and self.accelerator.is_main_process:
            window.load(resumed.state["window"])  # of all processes: the others begin at nothing
        numbers = range(self.progress.step, self.total)
        with Bar("pretrain", total=self.total, start=self.progress.step, unit="tok") as bar:
            for step in self.feed.steps(numbers, workers=self.config.loader_workers):
                begin = time.monotonic()
                at = place(self.lengths, step.number)
                if at.index != self.phase:
                    self._enter(at.index, resumed)
                    resumed = None
                share = rate_share(self.config.phases[at.index], at.step, self.lengths[at.index])
                tokens = self.progress.tokens
                norm = self._step(step, window, share, settled=at.step >= NORMS_BEFORE_GUARD)
                self.progress.step += 1
                self.progress.seconds += time.monotonic() - begin
                bar.advance(units=self.progress.tokens - tokens, note=self._note(window))
                last = self.progress.step == self.total
                if last or self.progress.step % self.config.log_every == 0:
                    window = self._log(window, share, norm)
                self.after_step(self.progress.step)
                if last or self._due(time.monotonic() - saved > max(self.config.checkpoint_every_s, pause)):
                    spent = self._save(window)
                    pause = spent / SAVING_SHARE if spent > NEGLIGIBLE_S else 0.0
                    saved = time.monotonic()
        if resumed is not None:  # killed behind its last step: nothing is left but what comes after
            self._enter(place(self.lengths, self.total - 1).index, resumed)
        return self.progress

    def _enter(self, index: int, resumed: Saved | None) -> None:
        """Start a phase: freeze, build the optimizer, wrap; with its state if the run was resumed in it."""
        phase, sharded = self.config.phases[index], self.machine.sharded
        wrapped = sharded and self.phase >= 0
        if not wrapped:
            self.loss = self._build_loss()
        set_trainable(self.model, self.family, phase)
        maps = self.loss.enter(phase.distill) if isinstance(self.loss, DistilledLoss) else []
        self.model.train()
        if self.config.activation_checkpointing:
            self.model.gradient_checkpointing_enable({"use_reentrant": False})
        built = build_optimizers(
            self.model, self.family, phase, self.config.optimizer, self.config.weight_decay, maps
        )
        if wrapped:  # a model is sharded once; later optimizers are built on its shards
            self.optimizers = [self.accelerator.prepare_optimizer(optimizer) for optimizer in built]
        else:
            self.module, *self.optimizers = self.accelerator.prepare(self.loss, *built)
            if sharded:
                assert isinstance(self.module, PackedLoss), "FSDP2 keeps a module's class"
                self.loss = self.module
                register_fsdp_forward_method(self.module, "logits")
        if resumed is not None:
            if sharded:
                restore_model(self.loss, resumed.model, sharded=True)
            if resumed.state["phase"] == index:
                for number, optimizer in enumerate(self.optimizers):
                    restore_optimizer(
                        self.loss, optimizer.optimizer, number, resumed.optimizer, sharded=sharded
                    )
            torch.set_rng_state(torch.tensor(resumed.state["random"], dtype=torch.uint8))
        self.phase = index

    def _build_loss(self) -> PackedLoss:
        """The model with what is minimized."""
        if self.lesson is None:
            return PackedLoss(self.model, self.family)
        return DistilledLoss(self.model, self.family, self.lesson)

    def _step(self, step: Step, window: Window, share: float, *, settled: bool) -> float:
        """One optimizer step; gives the gradient's norm."""
        device, ranks = self.accelerator.device, self.accelerator.num_processes
        weights, rows = self.config.phases[self.phase].distill, self._rows(step)
        done = list[tuple[torch.Tensor, int, Losses]]()
        for number, batch in enumerate(step.batches):
            synchronize = number + 1 == len(step.batches)
            with self._accumulating(synchronize):
                batch = batch.to(device)
                with self.machine.precision.forward(device):
                    given = self.module(batch)
                losses = given if isinstance(given, Losses) else Losses(given, {})
                # Wrappers average gradients over processes; the loss is a mean over all labelled tokens.
                self.accelerator.backward(losses.objective(weights, step.labelled, rows) * ranks)
            done.append((batch.labelled_categories_K, batch.num_rows, losses.detached()))
            window.add_batch(batch)
        norm = self.accelerator.clip_grad_norm_(self.module.parameters(), self.config.clip_norm)
        assert norm is not None, "a plain backward always has a norm"
        gradient_norm = float(norm)
        if reason := self._unfit(gradient_norm, settled):
            self._skip(reason)
        else:
            self._update(gradient_norm, share)
            for categories_K, num_rows, losses in done:
                window.add_losses(categories_K, losses.hard_K)
                for term, distance in losses.distances.items():
                    number = num_rows if term in FEATURE_TERMS else len(categories_K)
                    window.add_distance(term, float(distance), number)
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        if self.progress.step == 0:
            (total,) = self._sums(sum(float(losses.hard_K.sum()) for *_, losses in done))
            self.progress.first_loss = total / step.labelled
        self._count(step)
        return gradient_norm

    def _rows(self, step: Step) -> float:
        """Rows of the pixel store of a step over all processes, where features are learned from."""
        weights = self.config.phases[self.phase].distill
        if not (weights.vision or weights.connector):
            return 0
        (rows,) = self._sums(sum(batch.num_rows for batch in step.batches))
        return rows

    def _accumulating(self, synchronize: bool) -> AbstractContextManager[Any]:
        """Only the last forward of a step exchanges gradients."""
        if synchronize:
            return nullcontext()
        unsynchronized: AbstractContextManager[Any] = self.accelerator.no_sync(self.module)
        return unsynchronized

    def _update(self, norm: float, share: float) -> None:
        progress = self.progress
        for optimizer in self.optimizers:
            set_rate(optimizer, share)
            optimizer.step()
        progress.skipped_in_a_row = 0
        known = math.isfinite(progress.mean_norm)
        progress.mean_norm = NORM_MEMORY * progress.mean_norm + (1 - NORM_MEMORY) * norm if known else norm

    def _unfit(self, norm: float, settled: bool) -> str:
        """Why a step's gradients are not used; empty where they are. All processes know the same norm."""
        if not math.isfinite(norm):
            return f"gradient norm {norm}"
        mean = self.progress.mean_norm
        if settled and math.isfinite(mean) and norm > self.config.spike_factor * mean:
            return f"gradient norm {norm:.3g}, {norm / mean:.0f} times the running mean"
        return ""

    def _skip(self, reason: str) -> None:
        progress = self.progress
        progress.skipped += 1
        progress.skipped_in_a_row += 1
        self.run.event("step_skipped", step=progress.step, reason=reason)
        if progress.skipped_in_a_row >= self.config.max_skipped:
            self.run.gate(
                GateResult(
                    name="finite_gradients",
                    passed=False,
                    observed=f"{progress.skipped_in_a_row} steps in a row skipped, the last for {reason}",
                    required=f"fewer than {self.config.max_skipped} in a row",
                    fix="lower the phase's learning_rate or raise its warmup_share",
                    evidence={"step": progress.step},
                )
            )

    def _count(self, step: Step) -> None:
        """Add up what all processes read."""
        tokens, slots, samples = self._sums(
            sum(batch.num_tokens for batch in step.batches),
            sum(batch.category_BL.numel() for batch in step.batches),
            sum(batch.num_samples for batch in step.batches),
        )
        self.progress.tokens += round(tokens)
        self.progress.slots += round(slots)
        self.progress.samples += round(samples)

    def _sums(self, *values: float) -> list[float]:
        """Over all processes."""
        if self.accelerator.num_processes == 1:
            return list(values)
        own = torch.tensor(values, device=self.accelerator.device, dtype=torch.float64)
        summed: list[float] = self.accelerator.reduce(own, "sum").tolist()
        return summed

    def _note(self, window: Window) -> str:
        seconds = max(time.monotonic() - window.begin, 1e-9)
        used = self.machine.speed.utilization(window.slots, seconds)
        padding = 1 - window.tokens / max(window.slots, 1)
        return (
            f"loss {window.loss:.3f}, {window.samples / seconds:,.0f} samples/s, padding {padding:.0%}, "
            f"{used:.0%} of a matrix multiplication"
        )

    def _log(self, window: Window, share: float, norm: float) -> Window:
        for table in (window.losses, window.counts):
            self._reduce(table)
        sums = self._sums(window.tokens, window.slots, window.samples)
        window.tokens, window.slots, window.samples = (round(each) for each in sums)
        for each in window.distances.values():  # every process has the phases' terms, in their order
            each[:] = self._sums(*each)
        if float(window.counts.sum()):
            self.progress.last_loss = window.loss
        if self.accelerator.is_main_process:
            metrics = window.metrics(self.machine.speed)
            rate = self.config.phases[self.phase].learning_rate * share
            self.run.log(self.progress.step, learning_rate=rate, gradient_norm=norm, **metrics)
        return Window(self.names)

    def _reduce(self, table: torch.Tensor) -> None:
        if self.accelerator.num_processes > 1:
            table.copy_(self.accelerator.reduce(table.to(self.accelerator.device), "sum").cpu())

    def _due(self, due: bool) -> bool:
        """Whether to save: all processes do what the first one's clock says."""
        (decided,) = self._sums(float(due and self.accelerator.is_main_process))
        return decided > 0

    def bare(self) -> PackedLoss:
        """Model and loss without a data-parallel wrapper, for measuring."""
        if self.machine.sharded:
            return self.loss
        return PackedLoss(self.model, self.family)

    def weights(self) -> Tensors:
        """The model's weights as they are, whole; every process must ask where they are sharded."""
        return gather(self.model, (), sharded=self.machine.sharded)[0]

    def _save(self, window: Window) -> float:
        """Write the resumption checkpoint, whole or not at all; gives the seconds that it took."""
        begin = time.monotonic()
        whole = Window(self.names)
        whole.load(window.state())
        for table in (whole.losses, whole.counts):
            self._reduce(table)
        raw = [optimizer.optimizer for optimizer in self.optimizers]
        if not (self.accelerator.is_main_process or self.machine.sharded):
            return 0.0  # the first one's clock decides
        weights, moments = gather(self.loss, raw, sharded=self.machine.sharded)
        if self.accelerator.is_main_process:
            state = {
                "progress": self.progress.state(),
                "phase": self.phase,
                "window": whole.state(),
                "random": torch.get_rng_state().tolist(),
            }
            self.checkpoints.save(self.progress.step, Saved(weights, moments, state))
        return time.monotonic() - begin
