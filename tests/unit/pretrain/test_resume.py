"""Whatever stops a run, starting it again ends with the weights of one that was not stopped."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.artifacts import Dataset, Mixture
from components.config import Phase, PretrainConfig
from components.pretrain import pretrain
from components.pretrain.train import Trainer

Config = Callable[..., PretrainConfig]
ALL = ("vision", "connector", "language")


class Killed(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_pretrain_stopped_midway_and_started_again_gives_identical_weights(
    tiny_dataset: Dataset,
    tmp_path: Path,
    mixture: Mixture,
    tiny_config: Config,
    monkeypatch: pytest.MonkeyPatch,
    optimizer: str,
) -> None:
    whole = pretrain(
        config=tiny_config(tmp_path / "whole", optimizer=optimizer), dataset=tiny_dataset, mixture=mixture
    )
    config = tiny_config(tmp_path / "stopped", optimizer=optimizer, checkpoint_every_s=1e-9)
    step = Trainer._step
    for stop_at in (2, 11):

        def stopping(self: Trainer, *arguments: Any, stop_at: int = stop_at, **options: Any) -> float:
            if self.progress.step == stop_at:
                raise Killed
            return step(self, *arguments, **options)

        monkeypatch.setattr(Trainer, "_step", stopping)
        with pytest.raises(Killed):
            pretrain(config=config, dataset=tiny_dataset, mixture=mixture)
    monkeypatch.setattr(Trainer, "_step", step)
    resumed = pretrain(config=config, dataset=tiny_dataset, mixture=mixture)
    assert resumed.digest == whole.digest
    assert _losses(Path(resumed.record)) == _losses(Path(whole.record))


def test_pretrain_killed_five_times_and_run_again_gives_identical_losses_and_weights(
    tiny_dataset: Dataset,
    tmp_path: Path,
    mixture: Mixture,
    tiny_config: Config,
    training_process: Callable[[PretrainConfig], subprocess.Popen[bytes]],
) -> None:
    phases = (
        Phase(name="connector", trainable=("connector",), steps=30, learning_rate=1e-3),
        Phase(name="all", trainable=ALL, steps=170, learning_rate=3e-3),
    )
    shared = {"phases": phases, "log_every": 1}
    whole = pretrain(config=tiny_config(tmp_path / "whole", **shared), dataset=tiny_dataset, mixture=mixture)
    config = tiny_config(tmp_path / "killed", checkpoint_every_s=1e-9, **shared)
    identity = pretrain.identity(config=config, dataset=tiny_dataset, mixture=mixture)
    checkpoints = pretrain.directory(identity, config) / "scratch" / "checkpoints"
    steps = sorted(random.Random(0).sample(range(2, 120), 5))
    for stop_at in steps:
        process = training_process(config)
        while process.poll() is None and _done(checkpoints) < stop_at:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert pretrain.finished(config=config, dataset=tiny_dataset, mixture=mixture) is None
    resumed = pretrain(config=config, dataset=tiny_dataset, mixture=mixture)
    assert resumed.digest == whole.digest
    losses = _losses(Path(resumed.record))
    assert losses == _losses(Path(whole.record))
    assert len(losses) == 200


def _done(checkpoints: Path) -> int:
    """Step of the newest whole checkpoint."""
    names = [path.parent.name for path in checkpoints.glob("step-*/state.json")]
    return max((int(name.removeprefix("step-")) for name in names), default=0)


def _losses(record: Path) -> dict[int, tuple[float, ...]]:
    """Step → loss, gradient norm and the loss of each category."""
    lines = [json.loads(line) for line in (record.parent / "metrics.jsonl").read_text().splitlines()]
    return {
        line["step"]: tuple(
            value for name, value in sorted(line.items()) if name.startswith(("loss", "gradient"))
        )
        for line in lines
    }
