"""What every stage shares: identity, the output directory, resumption, metrics, gates, the record.

A stage is one function, declared with its kind of artifact:

    @stage("pretrain", Checkpoint)
    def pretrain(run: Run, *, config: PretrainConfig, dataset: Dataset, mixture: Mixture) -> Fields:
        ... write files into run.output, call run.log(step, loss=...) and run.gate(...)
        return {"contract": ...}          # the artifact's own fields

    checkpoint = pretrain(config=config, dataset=dataset, mixture=mixture)

Called again with the same identity it does nothing and gives the recorded artifact.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Concatenate, Generic, ParamSpec, TypeAlias, get_type_hints

from filelock import FileLock

from components.artifacts import (
    Artifact,
    ArtifactT,
    Identity,
    Parent,
    Record,
    Source,
    digest_directory,
    write_atomic,
)
from components.config import StageConfig
from components.errors import ArtifactMissing
from components.fingerprint import ROOT, code_identity
from components.gates.result import GateResult, require

P = ParamSpec("P")
Fields: TypeAlias = dict[str, Any]
Pin: TypeAlias = Callable[[Any], Any]
"""A stage's config → the same with the digests of what it names and does not hold (models in directories)."""
LISTENERS: list[Callable[[dict[str, Any]], None]] = []
"""Called with every event of a run in this process; stages know nothing of who listens."""


@dataclass
class Run:
    """One execution of a stage: where it writes, and what it reports."""

    stage: str
    fingerprint: str
    directory: Path
    sources: list[Source] = field(default_factory=list)
    dataset_versions: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    gates: list[GateResult] = field(default_factory=list)

    @property
    def output(self) -> Path:
        """The content: all that the artifact's digest covers. Deterministic files only."""
        return self.directory / "output"

    @property
    def scratch(self) -> Path:
        """Resumption state; what lies here after a crash was written by the same identity."""
        return self.directory / "scratch"

    @property
    def logs(self) -> Path:
        """Logs, pictures, quarantine: kept, but not part of the content digest."""
        return self.directory / "logs"

    def log(self, step: int, **metrics: float) -> None:
        """Append metrics of a step (for MLflow and the report's curves)."""
        line = {"step": step, "time": time.time(), **metrics}
        with (self.directory / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def event(self, name: str, **facts: str | float) -> None:
        """Tell what happened: kept in events.jsonl, and handed to whoever listens (the flow)."""
        line = {"stage": self.stage, "event": name, "time": time.time(), **facts}
        with (self.directory / "events.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        for listen in LISTENERS:
            listen(line)

    def forget_steps_after(self, step: int) -> None:
        """Drop logged steps above `step`: a resumed run logs them again."""
        path = self.directory / "metrics.jsonl"
        if path.exists():
            kept = [line for line in path.read_text().splitlines() if json.loads(line)["step"] <= step]
            write_atomic(path, "".join(f"{line}\n" for line in kept))

    def gate(self, result: GateResult) -> GateResult:
        """Keep a gate's result for the record; stop the stage when it blocks and failed.

        Raises:
            GateFailed: `result` did not pass and is blocking.
        """
        self.gates.append(result)
        write_atomic(
            self.directory / "gates.json", json.dumps([gate.model_dump() for gate in self.gates], indent=1)
        )
        require(result, where=f"stage '{self.stage}', evidence in {self.directory}")
        return result


class Stage(Generic[P, ArtifactT]):
    """A stage function with its identity. Call it; or ask it what it would do."""

    def __init__(
        self, name: str, gives: type[ArtifactT], body: Callable[Concatenate[Run, P], Fields], pin: Pin
    ) -> None:
        self.name, self.gives, self.body, self.pin = name, gives, body, pin
        self.module = body.__module__
        self.__name__, self.__doc__ = name, body.__doc__
        parameters = list(inspect.signature(body).parameters.values())[1:]
        self.__signature__ = inspect.Signature(parameters, return_annotation=gives)
        hints = get_type_hints(body)
        self.__annotations__ = {parameter.name: hints[parameter.name] for parameter in parameters}

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        """Pickled by where it is declared: another process imports it."""
        return _declared, (self.module, self.body.__qualname__)

    def identity(self, *args: P.args, **kwargs: P.kwargs) -> Identity:
        """What decides the bytes of the result: config without execution settings, code, parents."""
        return self._identity(self._pinned(kwargs))

    def _identity(self, kwargs: dict[str, Any]) -> Identity:
        inputs = self._inputs(kwargs)
        package = ".".join(self.module.split(".")[:2])
        return Identity(
            stage=self.name,
            config=_config(kwargs).identity(),
            code=code_identity(package),
            parents=_digests(inputs),
        )

    def directory(self, identity: Identity, config: StageConfig) -> Path:
        return config.execution.artifacts / self.name / identity.fingerprint[:16]

    def finished(self, *args: P.args, **kwargs: P.kwargs) -> ArtifactT | None:
        """The artifact of an earlier run of the same identity, if it is in the workspace."""
        identity = self.identity(*args, **kwargs)
        return self._load(self.directory(identity, _config(kwargs)), identity)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> ArtifactT:
        pinned = self._pinned(kwargs)
        identity, config = self._identity(pinned), _config(pinned)
        directory = self.directory(identity, config)
        directory.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(directory.with_suffix(".lock")):
            done = self._load(directory, identity)
            return done if done is not None else self._execute(directory, identity, config, args, pinned)

    def _execute(
        self, directory: Path, identity: Identity, config: StageConfig, args: Any, kwargs: Any
    ) -> ArtifactT:
        run = Run(self.name, identity.fingerprint, directory)
        for path in (run.output, run.scratch, run.logs):
            path.mkdir(parents=True, exist_ok=True)
        earlier = _clock(run)
        started, begin = datetime.now(UTC), time.monotonic()
        fields = self.body(run, *args, **kwargs)
        artifact = self.gives(
            uri=str(run.output),
            digest=digest_directory(run.output),
            record=str(directory / "record.json"),
            **fields,
        )
        inputs = self._inputs(kwargs)
        record = Record(
            stage=self.name,
            fingerprint=identity.fingerprint,
            artifact=artifact.model_dump(),
            identity=identity,
            config=config.model_dump(mode="json"),
            parents=tuple(_parents(inputs)),
            sources=tuple(run.sources),
            dataset_versions=_dataset_versions(inputs) | run.dataset_versions,
            git_commit=git_commit(),
            environment=environment_hash(),
            hardware=hardware(),
            started=started.isoformat(timespec="seconds"),
            seconds=round(earlier + time.monotonic() - begin, 2),
            metrics=run.metrics,
            gates=tuple(run.gates),
        )
        shutil.rmtree(run.scratch)
        write_atomic(directory / "record.json", record.model_dump_json(indent=1))
        return artifact

    def _load(self, directory: Path, identity: Identity) -> ArtifactT | None:
        path = directory / "record.json"
        if not path.is_file():
            return None
        record = Record.load(path)
        assert record.fingerprint == identity.fingerprint, f"{path} holds another fingerprint"
        artifact = self.gives.model_validate(record.artifact)
        return artifact if artifact.path.is_dir() else None

    def _pinned(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        return {**kwargs, "config": self.pin(_config(kwargs))}

    def _inputs(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in kwargs.items() if name != "config"}


def stage(
    name: str, gives: type[ArtifactT], *, pin: Pin = lambda config: config
) -> Callable[[Callable[Concatenate[Run, P], Fields]], Stage[P, ArtifactT]]:
    """Declare a stage: its name, the artifact type it gives, and how its config's sources are pinned."""

    def declare(body: Callable[Concatenate[Run, P], Fields]) -> Stage[P, ArtifactT]:
        return Stage(name, gives, body, pin)

    return declare


def _declared(module: str, name: str) -> object:
    return getattr(import_module(module), name)


def _clock(run: Run) -> float:
    """Seconds that earlier attempts took, however they ended; starts the clock of this one.

    An attempt that was killed cannot say how long it took: its newest file is its last sign of life.
    """
    path = run.scratch / "clock.json"
    earlier = 0.0
    if path.exists():
        clock = json.loads(path.read_text())
        newest = max(file.stat().st_mtime for file in run.directory.rglob("*") if file.is_file())
        earlier = clock["earlier"] + max(0.0, newest - clock["started"])
    write_atomic(path, json.dumps({"earlier": earlier, "started": time.time()}))
    return earlier


def _config(kwargs: dict[str, Any]) -> StageConfig:
    config = kwargs.get("config")
    assert isinstance(config, StageConfig), "a stage takes its config by keyword: stage(config=...)"
    return config


def _digests(inputs: dict[str, Any]) -> dict[str, str | None]:
    """Input name → digest. An input that cannot be fingerprinted is an error, never dropped."""
    digests: dict[str, str | None] = {}
    for name, value in sorted(inputs.items()):
        if isinstance(value, Artifact):
            digests[name] = value.digest
        elif isinstance(value, (list, tuple)) and all(isinstance(item, Artifact) for item in value):
            text = "\n".join(item.digest for item in value)
            digests[name] = hashlib.sha256(text.encode()).hexdigest()
        elif isinstance(value, str) or value is None:
            digests[name] = value
        else:
            raise ArtifactMissing(
                f"input '{name}' of type {type(value).__name__} cannot be fingerprinted",
                fix="hand a typed artifact (components/artifacts.py) to the stage",
            )
    return digests


def _flat(inputs: dict[str, Any]) -> list[tuple[str, Artifact]]:
    pairs: list[tuple[str, Artifact]] = []
    for name, value in inputs.items():
        if isinstance(value, Artifact):
            pairs.append((name, value))
        elif isinstance(value, (list, tuple)):
            pairs.extend((f"{name}.{index}", item) for index, item in enumerate(value))
    return pairs


def _parents(inputs: dict[str, Any]) -> list[Parent]:
    return [
        Parent(name=name, kind=item.kind, digest=item.digest, record=item.record)
        for name, item in _flat(inputs)
    ]


def _dataset_versions(inputs: dict[str, Any]) -> dict[str, str]:
    versions: dict[str, str] = {}
    for _, artifact in _flat(inputs):
        versions |= artifact.load_record().dataset_versions
    return versions


@cache
def git_commit() -> str:
    """Commit of the code that runs, `-dirty` when the tree differs from it, `unknown` outside git.

    What a run itself writes into the tree (`dvc.lock`) is no difference.
    """
    commit = _git("rev-parse", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!dvc.lock")
    return (commit + "-dirty" * bool(changed)) or "unknown"


def _git(*arguments: str) -> str:
    """What git says of the code's own tree; empty outside of one."""
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


@cache
def environment_hash() -> str:
    """SHA-256 over the lock files of all environments."""
    whole = hashlib.sha256()
    for path in sorted((ROOT / "infra" / "requirements").glob("*.txt")):
        whole.update(path.name.encode() + path.read_bytes())
    return whole.hexdigest()


@cache
def hardware() -> dict[str, str | int]:
    """Processor, cores, memory in GiB, and accelerators of this machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    facts: dict[str, str | int] = {
        "machine": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "cores": os.cpu_count() or 1,
        "memory_gib": round(memory / 2**30),
    }
    gpus = shutil.which("nvidia-smi")
    if gpus:
        listed = subprocess.run([gpus, "-L"], capture_output=True, text=True).stdout.strip()
        facts["accelerators"] = listed or "none"
    return facts
