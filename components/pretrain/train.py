"""The training loop: packs → loss → optimizer, with a resumption checkpoint every few seconds.

A killed run that is started again ends with the same weights as one that was not: the state holds all
that the coming steps depend on (weights, optimizer moments, the stream's place, the random generator).
"""

from __future__ import annotations

import itertools
import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from transformers import Idefics3ForConditionalGeneration

from components.config import PretrainConfig
from components.gates.result import GateResult
from components.loader import Batch, Collator, PackStream
from components.pretrain.data import Corpus
from components.pretrain.loss import PackedLoss, labelled_categories
from components.pretrain.schedule import build_optimizers, learning_rate, place, set_trainable
from components.progress import Bar
from components.stage import Run

MAX_SKIPPED = 5
"""Steps in a row without a finite gradient after which training stops."""


@dataclass
class Progress:
    """What a run has done so far; part of the resumption checkpoint."""

    step: int = 0
    tokens: int = 0
    slots: int = 0
    """Tokens with padding."""
    seconds: float = 0.0
    skipped: int = 0
    skipped_in_a_row: int = 0
    first_loss: float = math.nan
    last_loss: float = math.nan

    @property
    def padding(self) -> float:
        return 1 - self.tokens / max(self.slots, 1)


@dataclass
class Window:
    """Sums over the steps since the last logged one."""

    names: tuple[str, ...]
    losses: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    tokens: int = 0
    slots: int = 0
    begin: float = field(default_factory=time.monotonic)

    def add(self, batch: Batch, losses_K: torch.Tensor) -> None:
        categories_K = labelled_categories(batch)
        for index in torch.unique(categories_K).tolist():
            chosen, name = losses_K[categories_K == index], self.names[index]
            self.losses[name] = self.losses.get(name, 0.0) + float(chosen.sum())
            self.counts[name] = self.counts.get(name, 0) + len(chosen)
        self.tokens += batch.num_tokens
        self.slots += batch.category_BL.numel()

    @property
    def loss(self) -> float:
        return sum(self.losses.values()) / max(sum(self.counts.values()), 1)

    def metrics(self) -> dict[str, float]:
        """Means over the window; losses in nats per labelled token."""
        return {
            "loss": self.loss,
            "tokens_per_s": self.tokens / max(time.monotonic() - self.begin, 1e-9),
            "padding": 1 - self.tokens / max(self.slots, 1),
            **{f"loss/{name}": self.losses[name] / self.counts[name] for name in sorted(self.losses)},
        }


class Trainer:
    """One pretraining run.

    Args:
        weights: Mixture weight of each category.
    """

    def __init__(
        self,
        run: Run,
        config: PretrainConfig,
        corpus: Corpus,
        model: Idefics3ForConditionalGeneration,
        weights: Mapping[str, float],
        accelerator: Accelerator,
    ) -> None:
        self.run, self.config, self.accelerator = run, config, accelerator
        self.model = model.to(accelerator.device)
        self.collate = Collator(corpus.train, corpus.processor)
        self.names = corpus.train.categories
        self.stream = PackStream(
            corpus.train,
            weights,
            seed=config.seed,
            pack_tokens=config.pack_tokens,
            pack_images=config.pack_images,
            text_only_share=config.text_only_share,
            max_shift=config.max_shift,
        )
        self.progress = Progress()
        self.total = sum(phase.steps for phase in config.phases)
        self.state = run.scratch / "state.pt"
        self.phase = -1

    def fit(self) -> Progress:
        """Train to the last step, from the last resumption checkpoint if there is one."""
        resumed = self._resume()
        if self.accelerator.is_main_process:
            self.run.forget_steps_after(self.progress.step)
        self.model.train()
        window, saved = Window(self.names), time.monotonic()
        with Bar("pretrain", total=self.total, start=self.progress.step, unit="tok") as bar:
            while self.progress.step < self.total:
                begin = time.monotonic()
                at = place(self.config.phases, self.progress.step)
                if at.index != self.phase:
                    self._enter(at.index, resumed)
                    resumed = None
                rate = learning_rate(at.phase, at.step)
                tokens, gradient_norm = self._step(window, rate)
                self.progress.step += 1
                self.progress.seconds += time.monotonic() - begin
                bar.advance(units=tokens, note=f"loss {window.loss:.3f}")
                last = self.progress.step == self.total
                if last or self.progress.step % self.config.log_every == 0:
                    window = self._log(window, rate, gradient_norm)
                if last or time.monotonic() - saved > self.config.checkpoint_every_s:
                    self._save()
                    saved = time.monotonic()
        return self.progress

    def _enter(self, index: int, resumed: dict[str, Any] | None) -> None:
        """Start a phase: freeze, build the optimizer, wrap; with its state if the run was resumed in it."""
        phase = self.config.phases[index]
        set_trainable(self.model, phase)
        optimizers = build_optimizers(self.model, phase, self.config.optimizer, self.config.weight_decay)
        if resumed is not None and resumed["phase"] == index:
            for optimizer, state in zip(optimizers, resumed["optimizers"], strict=True):
                optimizer.load_state_dict(state)
        self.module, *self.optimizers = self.accelerator.prepare(PackedLoss(self.model), *optimizers)
        self.phase = index

    def _step(self, window: Window, rate: float) -> tuple[int, float]:
        """One optimizer step; gives the tokens it read (all processes) and the gradient's norm."""
        packs = list(
            itertools.islice(self.stream, self.config.packs_per_step * self.accelerator.num_processes)
        )
        batch = self.collate(packs[self.accelerator.process_index :: self.accelerator.num_processes])
        inputs = {name: tensor.to(self.accelerator.device) for name, tensor in batch.inputs.items()}
        losses_K = self.module(**inputs)
        # Processes hold different numbers of labelled tokens; wrappers average gradients over processes.
        count = torch.tensor(float(len(losses_K)), device=self.accelerator.device)
        self.accelerator.backward(losses_K.sum() / self.accelerator.reduce(count, "mean"))
        norm = self.accelerator.clip_grad_norm_(self.module.parameters(), self.config.clip_norm)
        assert norm is not None, "a plain backward always has a norm"
        gradient_norm = float(norm)
        if math.isfinite(gradient_norm):
            for optimizer in self.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.step()
            self.progress.skipped_in_a_row = 0
            window.add(batch, losses_K.detach().cpu())
        else:
            self._skip(gradient_norm)
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        if self.progress.step == 0:
            self.progress.first_loss = float(losses_K.detach().mean())
        self.progress.tokens += batch.num_tokens
        self.progress.slots += batch.category_BL.numel()
        return batch.num_tokens * self.accelerator.num_processes, gradient_norm

    def _skip(self, gradient_norm: float) -> None:
        self.progress.skipped += 1
        self.progress.skipped_in_a_row += 1
        if self.progress.skipped_in_a_row >= MAX_SKIPPED:
            self.run.gate(
                GateResult(
                    name="finite_gradients",
                    passed=False,
                    observed=f"{MAX_SKIPPED} steps in a row with gradient norm {gradient_norm}",
                    required="finite gradients",
                    fix="lower the phase's learning_rate or raise its warmup_share",
                    evidence={"step": self.progress.step},
                )
            )

    def _log(self, window: Window, rate: float, gradient_norm: float) -> Window:
        metrics = window.metrics()
        if window.counts:
            self.progress.last_loss = metrics["loss"]
        if self.accelerator.is_main_process:
            self.run.log(self.progress.step, learning_rate=rate, gradient_norm=gradient_norm, **metrics)
        return Window(self.names)

    def _save(self) -> None:
        """Write the resumption checkpoint, whole or not at all."""
        if not self.accelerator.is_main_process:
            return
        partial = self.state.with_name(".state.partial")
        torch.save(
            {
                "progress": vars(self.progress).copy(),
                "phase": self.phase,
                "model": self.model.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
                "stream": json.dumps(self.stream.state_dict()),
                "random": torch.get_rng_state(),
            },
            partial,
        )
        os.replace(partial, self.state)

    def _resume(self) -> dict[str, Any] | None:
        if not self.state.is_file():
            return None
        state = read_state(self.state)
        self.progress = Progress(**state["progress"])
        self.model.load_state_dict(state["model"])
        self.stream.load_state_dict(json.loads(state["stream"]))
        torch.set_rng_state(state["random"])
        return state


def read_state(path: Path) -> dict[str, Any]:
    """A resumption checkpoint, on the CPU."""
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state
