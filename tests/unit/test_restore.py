"""What made a registered model comes back on another machine: data, config, records."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from components.artifacts import (
    Artifact,
    Checkpoint,
    Dataset,
    Identity,
    Parent,
    Record,
    Release,
    digest_directory,
)
from components.config import LifecycleConfig, load
from components.errors import ArtifactMissing, ContractMismatch
from components.fingerprint import ROOT
from components.lineage import find_record
from components.restore import as_lines, restore
from components.storage import dataset_version, version_dataset
from components.tracking.lineage import keep_lineage
from components.tracking.registry import RECORD, Registry
from components.tracking.runs import open_tracker

MODEL = "opsin-vlm"


@dataclass(frozen=True)
class Made:
    """A model that was registered with its lineage, on the first machine."""

    uri: str
    remote: str
    dataset: Dataset
    release: Record
    config: LifecycleConfig
    version: str


def record_of(artifact: Artifact, stage: str, parents: dict[str, Artifact], remote: str) -> Record:
    digests: dict[str, str | None] = {name: each.digest for name, each in parents.items()}
    identity = Identity(stage=stage, config={"seed": 1}, code={"a": "b"}, parents=digests)
    record = Record(
        stage=stage,
        fingerprint=identity.fingerprint,
        artifact=artifact.model_dump(),
        identity=identity,
        config={"remote": remote},
        parents=tuple(
            Parent(name=name, kind=each.kind, digest=each.digest, record=each.record)
            for name, each in parents.items()
        ),
        git_commit="0" * 40,
        environment="",
        hardware={},
        started="2026-01-01T00:00:00+00:00",
        seconds=1.0,
    )
    Path(artifact.record).write_text(record.model_dump_json())
    return record


@pytest.fixture
def made(tmp_path: Path, tiny_dataset: Dataset) -> Made:
    first = tmp_path / "first"
    artifacts, remote = first / ".opsin" / "artifacts", str(tmp_path / "remote")
    place = artifacts / "curate" / "made"
    shutil.copytree(tiny_dataset.path, place / "output")
    dataset = tiny_dataset.model_copy(
        update={
            "uri": str(place / "output"),
            "record": str(place / "record.json"),
            "digest": digest_directory(place / "output"),
            "version": dataset_version(place / "output"),
        }
    )
    record_of(dataset, "curate", {}, remote)
    version_dataset(dataset, workspace=first, remote=remote)
    model = artifacts / "pretrain" / "made"
    (model / "output").mkdir(parents=True)
    (model / "output" / "model.safetensors").write_text("weights")
    files = {"uri": str(model / "output"), "record": str(model / "record.json")}
    checkpoint = Checkpoint(**files, digest=digest_directory(model / "output"), contract="c")
    record_of(checkpoint, "pretrain", {"dataset": dataset}, remote)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    registry = Registry.open(uri, model=MODEL, artifacts=tmp_path / "mlflow-artifacts")
    tags = {RECORD: checkpoint.record, "opsin.fingerprint": "f", "opsin.dataset_version": "d"}
    version = registry.register(model / "output", digest=checkpoint.digest, tags=tags)
    out = artifacts / "deploy" / "made"
    (out / "output").mkdir(parents=True)
    release = Release(
        uri=str(out / "output"),
        digest="d",
        record=str(out / "record.json"),
        verdict="promoted",
        model=MODEL,
        version=version.version,
        alias="champion",
        endpoint=None,
    )
    record = record_of(release, "deploy", {"bundle": checkpoint, "dataset": dataset}, remote)
    config = load(ROOT / "configs" / "smoke.toml")
    tracker = open_tracker(uri, "x", run_id="run", config={}, artifacts=tmp_path / "mlflow-artifacts")
    keep_lineage(tracker, Path(release.record), MODEL, version.version, config.model_dump(mode="json"))
    shutil.rmtree(first)  # the first machine is gone
    return Made(uri, remote, dataset, record, config, version.version)


def test_restore_brings_back_data_config_and_records(tmp_path: Path, made: Made) -> None:
    other = tmp_path / "other"
    restored = restore(made.uri, MODEL, made.version, workspace=other)
    (data,) = restored.datasets
    assert (dataset_version(data), digest_directory(data)) == (made.dataset.version, made.dataset.digest)
    assert load(restored.config) == made.config
    assert len(restored.records) == 3 and all(other in path.parents for path in restored.records)
    release = Record.load(restored.records[1])
    assert release.identity.fingerprint == release.fingerprint
    parents = [Path(parent.record) for path in restored.records for parent in Record.load(path).parents]
    assert parents and all(path.is_file() for path in parents)
    lines = as_lines(restored, reference=f"{MODEL}@{made.version}")
    assert any("git checkout" in line for line in lines)


def test_restore_twice_changes_nothing(tmp_path: Path, made: Made) -> None:
    other = tmp_path / "other"
    first = restore(made.uri, MODEL, made.version, workspace=other)
    times = [path.stat().st_mtime_ns for path in first.records]
    assert restore(made.uri, MODEL, made.version, workspace=other) == first
    assert [path.stat().st_mtime_ns for path in first.records] == times


def test_restore_by_alias_and_from_a_remote_that_moved(tmp_path: Path, made: Made) -> None:
    moved = tmp_path / "moved"
    shutil.move(made.remote, moved)
    with pytest.raises(ArtifactMissing, match=made.dataset.version):
        restore(made.uri, MODEL, "candidate", workspace=tmp_path / "other")
    restored = restore(made.uri, MODEL, "candidate", workspace=tmp_path / "other", remote=str(moved))
    assert restored.datasets


def test_restore_of_altered_data_is_refused(
    tmp_path: Path, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    restored = restore(made.uri, MODEL, made.version, workspace=other)
    record = next(path for path in restored.records if json.loads(path.read_text())["stage"] == "curate")
    monkeypatch.setattr("components.restore.digest_directory", lambda path: "0" * 64)
    with pytest.raises(ContractMismatch, match="not the one of the record"):
        restore(made.uri, MODEL, made.version, workspace=other)
    assert record.is_file()


def test_restore_of_a_version_without_lineage_says_so(tmp_path: Path, made: Made) -> None:
    registry = Registry.open(made.uri, model=MODEL, artifacts=tmp_path / "mlflow-artifacts")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "w").write_text("w")
    tags = {RECORD: "x", "opsin.fingerprint": "f", "opsin.dataset_version": "d"}
    version = registry.register(tmp_path / "m", digest="other", tags=tags)
    with pytest.raises(ArtifactMissing, match="without its lineage"):
        restore(made.uri, MODEL, version.version, workspace=tmp_path / "other")
    with pytest.raises(ArtifactMissing, match="no model version"):
        restore(made.uri, MODEL, "99", workspace=tmp_path / "other")


def test_restored_record_is_found_by_the_lineage_command(tmp_path: Path, made: Made) -> None:
    other = tmp_path / "other"
    restore(made.uri, MODEL, made.version, workspace=other)
    found = find_record(f"deploy/{made.release.fingerprint[:8]}", other)
    assert Record.load(found).fingerprint == made.release.fingerprint
