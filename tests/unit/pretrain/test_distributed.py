"""Several processes (real ones, over gloo) train as one does; one that dies ends all, and nothing is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
from safetensors.torch import load_file

from components.artifacts import Checkpoint, Dataset, Mixture
from components.config import Phase, PretrainConfig
from components.errors import ConfigError, GateFailed, OpsinError
from components.fingerprint import ROOT
from components.pretrain import pretrain
from components.pretrain.launch import Job

Config = Callable[..., PretrainConfig]
ALL = ("vision", "connector", "language")
PHASES = (
    Phase(name="connector", trainable=("connector",), steps=4, learning_rate=1e-3),
    Phase(name="all", trainable=ALL, steps=16, learning_rate=3e-3),
)
# One pack a process and step, half of the samples blind: some process often has a batch without any image.
SHARED: dict[str, Any] = {"phases": PHASES, "packs_per_step": 2, "text_only_share": 0.7, "log_every": 1}


def _losses(checkpoint: Checkpoint) -> list[float]:
    path = Path(checkpoint.record).parent / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def test_pretrain_two_processes_give_the_loss_curve_of_one(
    tiny_dataset: Dataset, tmp_path: Path, mixture: Mixture, tiny_config: Config
) -> None:
    one = pretrain(config=tiny_config(tmp_path / "one", **SHARED), dataset=tiny_dataset, mixture=mixture)
    config = tiny_config(tmp_path / "two", processes=2, **SHARED)
    two = pretrain(config=config, dataset=tiny_dataset, mixture=mixture)
    assert _losses(two) == pytest.approx(_losses(one), abs=1e-4)
    assert len(_losses(two)) == 20
    plan = pd.read_parquet(Path(two.record).parent / "logs" / "packplan.parquet")
    assert plan.groupby("pack")["images"].sum().min() == 0
    before, after = (load_file(each.path / "model.safetensors") for each in (one, two))
    assert max(float((before[name] - after[name]).abs().max()) for name in before) < 1e-3
    records = one.load_record(), two.load_record()
    assert records[0].metrics["tokens"] == records[1].metrics["tokens"]
    assert [gate.name for gate in records[1].gates] == [gate.name for gate in records[0].gates]
    # Processes are execution: the same fingerprint.
    assert records[0].fingerprint == records[1].fingerprint


def test_pretrain_one_of_two_processes_killed_ends_both_and_one_process_goes_on(
    tiny_dataset: Dataset, tmp_path: Path, mixture: Mixture, tiny_config: Config
) -> None:
    longer = SHARED | {"phases": (PHASES[0], PHASES[1].model_copy(update={"steps": 60}))}
    whole = pretrain(config=tiny_config(tmp_path / "whole", **longer), dataset=tiny_dataset, mixture=mixture)
    config = tiny_config(tmp_path / "killed", processes=2, checkpoint_every_s=1e-9, **longer)
    identity = pretrain.identity(config=config, dataset=tiny_dataset, mixture=mixture)
    scratch = pretrain.directory(identity, config) / "scratch"
    ours = set[int]()

    def kill_one_at_work() -> None:
        while not list((scratch / "checkpoints").glob("step-00000000[5-9]/state.json")):
            time.sleep(0.01)
        ranks = {_rank(each.pid): each.pid for each in psutil.Process().children(recursive=True)}
        ours.update(pid for rank, pid in ranks.items() if rank)
        os.kill(ranks["1"], signal.SIGKILL)

    killer = threading.Thread(target=kill_one_at_work, daemon=True)
    killer.start()
    with pytest.raises(OpsinError, match="ended with status"):
        pretrain(config=config, dataset=tiny_dataset, mixture=mixture)
    killer.join()
    assert len(ours) == 2
    assert not any(psutil.pid_exists(pid) for pid in ours)
    alone = config.model_copy(update={"processes": 1})
    resumed = pretrain(config=alone, dataset=tiny_dataset, mixture=mixture)
    assert _losses(resumed) == pytest.approx(_losses(whole), abs=1e-3)


def _rank(pid: int) -> str:
    try:
        return psutil.Process(pid).environ().get("RANK", "")
    except psutil.Error:
        return ""


def test_pretrain_gate_that_fails_in_the_processes_fails_the_stage(
    tiny_dataset: Dataset, tmp_path: Path, mixture: Mixture, tiny_config: Config
) -> None:
    phases = (Phase(name="all", trainable=("connector",), steps=2, learning_rate=1e-9),)
    config = tiny_config(tmp_path, phases=phases, processes=2, min_end_token_rate=1.0)
    with pytest.raises(GateFailed):
        pretrain(config=config, dataset=tiny_dataset, mixture=mixture)


def test_pretrain_error_in_the_processes_is_told_as_it_was(
    tiny_dataset: Dataset, tmp_path: Path, mixture: Mixture, tiny_config: Config
) -> None:
    config = tiny_config(tmp_path, processes=2, pack_tokens=64, too_long="error")
    other = mixture.model_copy(update={"weights": {"video": 1.0}})
    with pytest.raises(OpsinError, match=r"process [01]: ConfigError: .*(video|does not fit)"):
        pretrain(config=config, dataset=tiny_dataset, mixture=other)


def test_pretrain_missing_accelerate_config_names_it(
    tiny_dataset: Dataset, tmp_path: Path, mixture: Mixture, tiny_config: Config
) -> None:
    config = tiny_config(tmp_path, processes=2, accelerate="infra/accelerate/none.yaml")
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        pretrain(config=config, dataset=tiny_dataset, mixture=mixture)


def test_trainer_sharded_over_two_processes_trains_as_one_and_goes_on_with_one(
    tiny_dataset: Dataset, tmp_path: Path, mixture: Mixture, tiny_config: Config
) -> None:
    """FSDP2 through a phase of the connector alone, stopped in the second phase, then one plain process."""
    one = pretrain(config=tiny_config(tmp_path / "one", **SHARED), dataset=tiny_dataset, mixture=mixture)
    config = tiny_config(tmp_path / "sharded", checkpoint_every_s=1e-9, **SHARED)
    identity = pretrain.identity(config=config, dataset=tiny_dataset, mixture=mixture)
    directory = pretrain.directory(identity, config)
    (directory / "scratch").mkdir(parents=True)
    job = Job(
        fingerprint="sharded", directory=directory, config=config, dataset=tiny_dataset, mixture=mixture
    )
    path = tmp_path / "job.json"
    path.write_text(job.model_dump_json())
    for until in ("7", "12"):  # the second time from the first one's checkpoint
        launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
        worker = [str(Path(__file__).with_name("fsdp_worker.py")), str(path), until]
        done = subprocess.run(
            [*launcher, *worker],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]
    rest = pretrain(config=config, dataset=tiny_dataset, mixture=mixture)
    assert _losses(rest) == pytest.approx(_losses(one), abs=1e-4)
