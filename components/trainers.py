"""What stages that train with TRL share: arguments, progress, logged metrics, resumption.

A killed run continues from the last checkpoint that was finished: adapters, optimizer, schedule and
random numbers come back, and the result is the uninterrupted one to the last bit.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.utils import logging

from components.config import AlignConfig, SftConfig
from components.gates import GateResult
from components.progress import Bar
from components.stage import Run

FINISHED: Final = "finished"
"""Marker in a resumption checkpoint: all of its files were written."""


def arguments(run: Run, config: SftConfig | AlignConfig) -> dict[str, Any]:
    """Training arguments common to all TRL trainers; nothing phones home, nothing prints."""
    on_cpu = config.execution.device == "cpu" or not torch.cuda.is_available()
    return {
        "output_dir": str(trainer_directory(run)),
        "max_steps": config.steps,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": config.warmup_share if config.warmup_share * config.steps >= 1 else 0,
        "logging_steps": min(config.log_every, config.steps),
        "seed": config.seed,
        "data_seed": config.seed,
        # Progress saves by the clock instead (see Watch): steps differ in length between machines.
        "save_strategy": "no",
        "save_total_limit": 1,
        "use_cpu": on_cpu,
        # bf16 autocast ran at half the speed of fp32 on CPU at this size.
        "bf16": not on_cpu,
        "gradient_checkpointing": False,
        "remove_unused_columns": False,
        "dataloader_pin_memory": False,
        "report_to": "none",
        "push_to_hub": False,
        "disable_tqdm": True,
    }


def trainer_directory(run: Run) -> Path:
    return run.scratch / "trainer"


def train(
    trainer: Trainer,
    run: Run,
    config: SftConfig | AlignConfig,
    *,
    metrics: Callable[[dict[str, float]], dict[str, float]],
    units: Callable[[], float],
    unit: str,
) -> float:
    """Train with a progress bar, from the last finished checkpoint where there is one.

    Args:
        metrics: Picks and names, out of a trainer's log line, what the run logs.
        units: A count of tokens (or pairs) that grows with training, for the rate.
        unit: What `units` counts.

    Returns:
        The last logged loss.
    """
    checkpoint = last_checkpoint(trainer_directory(run))
    start = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
    run.forget_steps_after(start)
    trainer.remove_callback(PrinterCallback)
    with Bar(run.stage, total=config.steps, start=start, unit=unit) as bar:
        watch = Watch(run, bar, every_s=config.checkpoint_every_s, metrics=metrics, units=units, unit=unit)
        trainer.add_callback(watch)
        with _quiet():
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    return float(losses[-1]) if losses else math.nan


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' remarks on file times and mended token ids, which say nothing to a user."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def last_checkpoint(directory: Path) -> Path | None:
    """The newest checkpoint that was written whole; what a crash left half-written is removed."""
    whole: list[tuple[int, Path]] = []
    for path in directory.glob("checkpoint-*"):
        if (path / FINISHED).exists():
            whole.append((int(path.name.rpartition("-")[2]), path))
        else:
            shutil.rmtree(path)
    return max(whole)[1] if whole else None


def finite_loss(loss: float) -> GateResult:
    """Gate: training ended with a loss that is a number."""
    return GateResult(
        name="finite_loss",
        passed=math.isfinite(loss),
        observed=f"{loss:.4f}",
        required="a finite loss at the end of training",
        fix="lower the stage's learning_rate",
    )


class Watch(TrainerCallback):
    """Progress bar, logged metrics, and a resumption checkpoint every `every_s` seconds."""

    def __init__(
        self,
        run: Run,
        bar: Bar,
        *,
        every_s: float,
        metrics: Callable[[dict[str, float]], dict[str, float]],
        units: Callable[[], float],
        unit: str,
    ) -> None:
        self._run, self._bar, self._every_s = run, bar, every_s
        self._metrics, self._units, self._unit = metrics, units, unit
        self._saved = self._logged = time.monotonic()
        self._units_shown = self._units_logged = 0.0
        self._note = ""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._units_shown = self._units_logged = self._units()
        self._saved = self._logged = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        done = self._units()
        self._bar.advance(units=done - self._units_shown, note=self._note)
        self._units_shown = done
        if time.monotonic() - self._saved > self._every_s and state.global_step < state.max_steps:
            control.should_save = True

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        (Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / FINISHED).touch()
        self._saved = time.monotonic()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        if not logs or "loss" not in logs:
            return
        now, done = time.monotonic(), self._units()
        rate = (done - self._units_logged) / max(now - self._logged, 1e-9)
        self._logged, self._units_logged = now, done
        self._note = f"loss {logs['loss']:.3f}"
        values = self._metrics(logs) | {f"{self._unit}_per_s": rate}
        self._run.log(state.global_step, **values)
