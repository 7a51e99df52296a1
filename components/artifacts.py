"""The typed hand-overs between stages, and the lineage record that lies beside each output.

An artifact travels through Prefect; tensors and files never do. On disk:

    .opsin/artifacts/<stage>/<fingerprint>/
        output/        what the artifact's uri points to; its content digest is taken over this
        record.json    the lineage record, written last: present means finished
        metrics.jsonl  one line a logged step
        scratch/       resumption state while the stage runs; removed when it has finished
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from components.errors import ArtifactMissing
from components.gates.result import GateResult

VALIDATION_ANSWERS = "validation.parquet"


class Artifact(BaseModel):
    """What a stage gives and the next one takes: where it is, what it is, and its record."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    uri: str
    """Directory of the content."""
    digest: str
    """SHA-256 over the content (relative paths and bytes)."""
    record: str
    """Path of record.json."""

    @property
    def path(self) -> Path:
        return Path(self.uri)

    def load_record(self) -> Record:
        return Record.load(Path(self.record))


class Dataset(Artifact):
    """WebDataset shards (`shards/*.tar`) and `manifest.parquet`, gated and versioned."""

    kind: Literal["dataset"] = "dataset"
    name: str
    version: str
    """The md5 that DVC gives the directory."""
    num_samples: int


class Mixture(Artifact):
    """Weights per category (`mixture.toml`), how they were found, and how sure we are."""

    kind: Literal["mixture"] = "mixture"
    name: str
    weights: dict[str, float]


class Checkpoint(Artifact):
    """A Hugging Face model directory: config, safetensors, tokenizer, processor, `contract.json`."""

    kind: Literal["checkpoint"] = "checkpoint"
    quantized: bool = False
    contract: str
    """Hash of the processor contract; asserted wherever the checkpoint is loaded."""

    @property
    def validation_answers(self) -> Path:
        """Every validation answer's loss, tokens and correctness (parquet), as pretraining measured them."""
        return Path(self.record).parent / "logs" / VALIDATION_ANSWERS


class Preferences(Artifact):
    """Pairs of a chosen and a rejected answer to the same image and question (`pairs.parquet`)."""

    kind: Literal["preferences"] = "preferences"
    num_pairs: int


class Scores(Artifact):
    """Held-out scores with intervals (`scores.json`) and every prediction (`predictions.parquet`)."""

    kind: Literal["scores"] = "scores"
    label: str
    """The stage whose checkpoint was scored."""


class Values(Artifact):
    """What each filter or source of a curation is worth (`value.json`)."""

    kind: Literal["values"] = "values"


class Bundle(Artifact):
    """What a runtime loads: `vllm/` (safetensors), `onnx/`; each compared with PyTorch."""

    kind: Literal["bundle"] = "bundle"
    quantized: bool
    contract: str


class Release(Artifact):
    """The canary's verdict and where the alias went."""

    kind: Literal["release"] = "release"
    verdict: Literal["promoted", "rolled_back", "inconclusive"]
    model: str
    version: str
    alias: str | None
    endpoint: str | None
    """Base URL (ending in /v1) that still serves after the flow ended, or None."""


ArtifactT = TypeVar("ArtifactT", bound=Artifact)


class Identity(BaseModel):
    """Everything that decides the bytes of a result; its hash is the fingerprint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    config: dict[str, Any]
    code: dict[str, str]
    """Project module → hash of its normalized syntax tree."""
    parents: dict[str, str | None]
    """Input name → content digest (None: an optional input that was not given)."""

    @property
    def fingerprint(self) -> str:
        text = json.dumps(self.model_dump(), sort_keys=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()


class Source(BaseModel):
    """One raw source as it was fetched."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    locator: str
    version: str
    sha256: str
    licence: str
    num_samples: int = 0


class Parent(BaseModel):
    """An input of a stage, with the record that tells how it was made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: str
    digest: str
    record: str


class Record(BaseModel):
    """The lineage record: walk `parents` from any release back to every source package."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    stage: str
    fingerprint: str
    artifact: dict[str, Any]
    """The artifact as handed on (kind, uri, digest and its own fields)."""
    identity: Identity
    config: dict[str, Any]
    """The resolved config, execution settings included."""
    parents: tuple[Parent, ...]
    sources: tuple[Source, ...] = ()
    dataset_versions: dict[str, str] = Field(default_factory=dict)
    git_commit: str
    environment: str
    """SHA-256 over the environments' lock files."""
    hardware: dict[str, str | int]
    started: str
    """UTC, ISO 8601."""
    seconds: float
    """Seconds of work, summed over interrupted attempts that left resumption state."""
    metrics: dict[str, float] = Field(default_factory=dict)
    gates: tuple[GateResult, ...] = ()

    @classmethod
    def load(cls, path: Path) -> Record:
        """Read a record.

        Raises:
            ArtifactMissing: no record lies at `path`.
        """
        if not path.is_file():
            raise ArtifactMissing(
                "a lineage record is missing", where=str(path), fix="run the stage that made it again"
            )
        return cls.model_validate_json(path.read_text())


def write_atomic(path: Path, text: str) -> None:
    """Write a file whole or not at all: a crash leaves the old content, never half of the new."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    os.replace(temporary, path)


def link_files(source: Path, target: Path) -> None:
    """Make `target` hold the files of `source` and nothing else: hard links, copies across file systems."""
    shutil.rmtree(target, ignore_errors=True)
    for path in sorted(_files(source)):
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, place)
        except OSError:
            shutil.copy2(path, place)


def digest_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_directory(directory: Path) -> str:
    """SHA-256 over the sorted relative paths and contents of every file below `directory`."""
    whole = hashlib.sha256()
    for path in sorted(_files(directory)):
        whole.update(f"{path.relative_to(directory).as_posix()}\0{digest_file(path)}\n".encode())
    return whole.hexdigest()


def _files(directory: Path) -> Iterator[Path]:
    for path in directory.rglob("*"):
        if path.is_file():
            yield path
