"""What is watched while training runs: validation losses, the best weights, and every held-out group.

A group that falls below its best by more than its budget, and by more than noise, is an event; where the
config says so, it stops the run.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import torch

from components.artifacts import write_atomic
from components.config import PretrainConfig
from components.engine.loss import PackedLoss
from components.gates.quality import Bootstrap, paired_difference
from components.gates.result import GateResult
from components.pretrain.checkpoints import Checkpoints, Saved, Tensors
from components.pretrain.measure import HeldOut
from components.stage import Run

RESAMPLES = 500


@dataclass
class Watch:
    """Measures when its time has come.

    Args:
        validation: Of every category.
        groups: Of every held-out group; None: not watched.
    """

    run: Run
    config: PretrainConfig
    module: Callable[[], PackedLoss]
    """The model as it is now."""
    device: torch.device
    validation: HeldOut
    groups: HeldOut | None
    weights: Callable[[], Tensors]
    """Weights as they are now; of a sharded model every process must ask."""
    total: int
    """Steps of the run."""
    main: bool = True
    """Whether this process logs and writes."""
    best_loss: float = field(default=float("inf"), init=False)
    best_step: int = field(default=0, init=False)
    _bests: dict[str, pd.DataFrame] = field(default_factory=dict, init=False)
    """Group → its answers at its best."""

    def __post_init__(self) -> None:
        if self._state.exists():
            kept = json.loads(self._state.read_text())
            self.best_loss, self.best_step = kept["best_loss"], kept["best_step"]

    @property
    def best(self) -> Path:
        """Directory of the checkpoint with the best weights so far."""
        return self.run.scratch / "best"

    @property
    def _state(self) -> Path:
        return self.run.scratch / "watch.json"

    def after_step(self, step: int) -> None:
        """Measure what is due after so many steps."""
        last = step == self.total and self.config.select == "best"
        if self.config.validate_every and (step % self.config.validate_every == 0 or last):
            self._validate(step)
        if self.groups and self.config.watch.every and step % self.config.watch.every == 0:
            self._look_at_groups(step, self.groups)

    def _validate(self, step: int) -> None:
        losses = self.validation.measure(self.module(), self.device).losses()
        mean = sum(losses.values()) / len(losses)
        self._log(step, {"validation_loss": mean} | _named("validation_loss", losses))
        if self.config.select == "best" and mean < self.best_loss:
            weights = self.weights()
            self.best_loss, self.best_step = mean, step
            if self.main:
                Checkpoints(self.best, keep=1).save(step, Saved(weights, {}, {"validation_loss": mean}))
                write_atomic(self._state, json.dumps({"best_loss": mean, "best_step": step}))

    def _look_at_groups(self, step: int, groups: HeldOut) -> None:
        measured = groups.measure(self.module(), self.device)
        self._log(
            step, _named("held_out_loss", measured.losses()) | _named("held_out_exact", measured.exact())
        )
        for group, answers in measured.frame.groupby("group", sort=True):
            self._compare(step, str(group), answers)

    def _compare(self, step: int, group: str, answers: pd.DataFrame) -> None:
        """A group's answers with those at its best; kept on disk, so that a resumed run remembers."""
        path = self.run.scratch / "groups" / f"{group.replace('/', '-')}.parquet"
        if group not in self._bests and path.exists():
            self._bests[group] = pd.read_parquet(path)
        best = self._bests.get(group)
        if best is None or float(answers["correct"].mean()) >= float(best["correct"].mean()):
            self._bests[group] = answers
            if self.main:
                path.parent.mkdir(exist_ok=True)
                partial = path.with_suffix(".partial")
                answers.to_parquet(partial)
                partial.replace(path)
            return
        change = paired_difference(answers, best, Bootstrap(RESAMPLES, seed=self.config.seed))
        budget = self.config.watch.budget
        if change.value >= -budget or change.high >= 0:
            return
        if self.main:
            self.run.event("regression", step=step, group=group, change=str(change), budget=budget)
        if self.config.watch.on_regression == "stop":
            self.run.gate(
                GateResult(
                    name="no_regression",
                    passed=False,
                    observed=f"{group} changed by {change} against its best, at step {step}",
                    required=f"not below {-budget:+.3f}",
                    fix="mix in more of the category, lower the learning rate, or raise watch.budget",
                    evidence={"group": group, "step": step},
                )
            )

    def _log(self, step: int, metrics: dict[str, float]) -> None:
        if self.main:
            self.run.log(step, **metrics)


def _named(prefix: str, values: dict[str, float]) -> dict[str, float]:
    return {f"{prefix}/{name}": value for name, value in values.items()}
