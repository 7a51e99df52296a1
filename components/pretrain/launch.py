"""Training on several processes: `accelerate launch` starts them, and the stage waits for their result.

The stage (which holds the lock and writes the record) leaves `job.json` in the run's scratch directory; every
process reads it and works; the first one writes the weights and `result.json`. When one process dies, the
launcher ends the others and says so; the same command goes on from the last checkpoint.

On further machines that share the workspace, the same job is joined by hand:

    python -m components.pretrain.launch JOB.json --machine-rank 1
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from components.artifacts import Dataset, Mixture, write_atomic
from components.config import PretrainConfig
from components.errors import ConfigError, OpsinError
from components.fingerprint import ROOT
from components.gates.result import GateResult
from components.processes import guard
from components.progress import Bar
from components.stage import LISTENERS, Fields, Run

JOB, RESULT, ERROR, LOG = "job.json", "result.json", "error.json", "processes.log"
POLL_S = 0.3
TAIL = 15
"""Lines of the log that an error shows."""
Work = Callable[[Run, PretrainConfig, Dataset, Mixture], Fields]


class Job(BaseModel):
    """What every process is told."""

    model_config = ConfigDict(frozen=True)

    fingerprint: str
    directory: Path
    config: PretrainConfig
    dataset: Dataset
    mixture: Mixture


class Result(BaseModel):
    """What the first process found."""

    model_config = ConfigDict(frozen=True)

    fields: Fields
    metrics: dict[str, float]
    gates: tuple[GateResult, ...]


def launched() -> bool:
    """Whether this process is one of several that a launcher started."""
    return "RANK" in os.environ


def launch(run: Run, config: PretrainConfig, dataset: Dataset, mixture: Mixture) -> Fields:
    """Train on `config.processes` processes; gives what one process would.

    Raises:
        GateFailed: a gate failed in them.
        OpsinError: a process ended without a result; the last lines of its log are in the message.
        ConfigError: accelerate's config file is missing.
    """
    job = Job(
        fingerprint=run.fingerprint, directory=run.directory, config=config, dataset=dataset, mixture=mixture
    )
    path = run.scratch / JOB
    follow = _Follow(run, config)
    for old in (run.scratch / RESULT, run.scratch / ERROR, run.directory / "gates.json"):
        old.unlink(missing_ok=True)
    write_atomic(path, job.model_dump_json())
    status = _start(path, config, follow=follow)
    result = run.scratch / RESULT
    if status == 0 and result.exists():
        found = Result.model_validate_json(result.read_text())
        run.metrics |= found.metrics
        run.gates += found.gates
        return found.fields
    failed = [gate for gate in _gates(run) if gate.blocking and not gate.passed]
    if failed:
        run.gate(failed[-1])
    raise OpsinError(
        f"training on {config.processes} processes ended with status {status}:\n    {_cause(run)}",
        where=str(run.logs / LOG),
        fix="read the whole log; the same command goes on from the last checkpoint",
    )


def _cause(run: Run) -> str:
    """What a process said when it failed; without any, the last lines of the log."""
    path = run.scratch / ERROR
    if path.exists():
        told = json.loads(path.read_text())
        return f"process {told['rank']}: {told['error']}"
    return "\n    ".join((run.logs / LOG).read_text(errors="replace").splitlines()[-TAIL:])


def _gates(run: Run) -> list[GateResult]:
    path = run.directory / "gates.json"
    return [GateResult.model_validate(gate) for gate in json.loads(path.read_text())] if path.exists() else []


def command(job: Path, config: PretrainConfig, machine_rank: int = 0) -> list[str]:
    """How the processes of one machine are started.

    Raises:
        ConfigError: accelerate's config file is missing.
    """
    settings = ROOT / config.accelerate
    if not settings.is_file():
        raise ConfigError(
            f"no such file: {config.accelerate}",
            where="pretrain.accelerate",
            fix="name one of infra/accelerate/, or make one with `accelerate config`",
        )
    return [
        *(sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(settings)),
        *("--num_processes", str(config.processes), "--machine_rank", str(machine_rank)),
        *("--module", "components.pretrain.launch", str(job)),
    ]


class _Follow:
    """Shows what the processes do: progress by their metrics, and their events to whoever listens here."""

    def __init__(self, run: Run, config: PretrainConfig) -> None:
        self._events, self._metrics = (
            _Lines(run.directory / "events.jsonl"),
            _Lines(run.directory / "metrics.jsonl"),
        )
        self._title = f"pretrain on {config.processes} processes"
        self._total = sum(phase.steps for phase in config.phases)

    def until_end(self, process: subprocess.Popen[bytes]) -> int:
        """Wait for the launcher; gives its status."""
        self._events.read(), self._metrics.read()  # of earlier attempts
        with Bar(self._title, total=self._total, unit="steps") as bar:
            while process.poll() is None:
                time.sleep(POLL_S)
                self._show(bar)
            self._show(bar)
        return process.returncode

    def _show(self, bar: Bar) -> None:
        for event in self._events.read():
            for listen in LISTENERS:
                listen(event)
        for line in self._metrics.read():
            if "tokens_per_s" in line:
                note = f"loss {line['loss']:.3f}, {line['tokens_per_s']:,.0f} tok/s"
                bar.advance(line["step"] - bar.done, note=note)


class _Lines:
    """New lines of a file of JSON that others write to."""

    def __init__(self, path: Path) -> None:
        self.path, self.read_until = path, 0

    def read(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        content = self.path.read_bytes()
        self.read_until = min(self.read_until, len(content))  # a resumed run takes lines back
        whole, _, rest = content[self.read_until :].rpartition(b"\n")
        self.read_until = len(content) - len(rest)
        return [json.loads(line) for line in whole.splitlines()]


def _start(job: Path, config: PretrainConfig, machine_rank: int = 0, follow: _Follow | None = None) -> int:
    """Run the processes to their end under a guard: none outlives this one, however it ends."""
    guarded = [sys.executable, guard.__file__, "--", *command(job, config, machine_rank)]
    log = job.parent.parent / "logs" / LOG
    environment = os.environ | {
        "OMP_NUM_THREADS": str(config.execution.threads),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
    }
    with log.open("ab") as file:
        process = subprocess.Popen(
            guarded, stdin=subprocess.PIPE, stdout=file, stderr=subprocess.STDOUT, env=environment
        )
        try:
            return follow.until_end(process) if follow else process.wait()
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait()


def work(path: Path, train: Work) -> None:
    """One process's share of a job."""
    job = Job.model_validate_json(path.read_text())
    run = Run("pretrain", job.fingerprint, job.directory)
    try:
        fields = train(run, job.config, job.dataset, job.mixture)
    except Exception as error:
        told = {"rank": os.environ["RANK"], "error": f"{type(error).__name__}: {error}"}
        write_atomic(job.directory / "scratch" / ERROR, json.dumps(told))
        raise
    if os.environ["RANK"] == "0":
        result = Result(fields=fields, metrics=run.metrics, gates=tuple(run.gates))
        write_atomic(job.directory / "scratch" / RESULT, result.model_dump_json())


def main() -> None:
    from components.pretrain.stage import train

    parser = argparse.ArgumentParser(prog="python -m components.pretrain.launch", description=__doc__)
    parser.add_argument("job", type=Path, help="job.json of the run, on the shared workspace")
    parser.add_argument("--machine-rank", type=int, default=1, help="number of this machine, from 1")
    arguments = parser.parse_args()
    if launched():
        work(arguments.job, train)
    else:
        config = Job.model_validate_json(arguments.job.read_text()).config
        sys.exit(_start(arguments.job, config, arguments.machine_rank))


if __name__ == "__main__":
    main()
