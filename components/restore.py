"""Bring back what made a registered model: its data, its config and its records, on any machine.

opsin restore opsin-vlm@champion
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.artifacts import Record, digest_directory, write_atomic
from components.config import Execution
from components.errors import ArtifactMissing, ContractMismatch
from components.stage import git_commit
from components.storage import checkout_version, dataset_version
from components.tracking.lineage import CONFIG, fetch_lineage


@dataclass(frozen=True)
class Restored:
    """What is in the workspace now."""

    config: Path
    """The lifecycle's config, as it ran."""
    records: tuple[Path, ...]
    datasets: tuple[Path, ...]
    git_commit: str
    """Of the code that made the model."""

    @property
    def same_code(self) -> bool:
        """Whether the code that runs here is that code."""
        return self.git_commit == git_commit()


def restore(uri: str, model: str, reference: str, *, workspace: Path, remote: str = "") -> Restored:
    """Records into `.opsin/artifacts`, datasets from the DVC remote, the config into `restored/`.

    What is there already is checked and left alone, so that a second call does nothing.

    Args:
        uri: MLflow's tracking URI.
        reference: Version number or alias.
        remote: DVC remote; empty: the one of the record, else the workspace's default.

    Raises:
        ArtifactMissing: no such version, or its data is neither in the cache nor in the remote.
        ContractMismatch: what the remote holds is not what the record says.
    """
    artifacts = Execution(workspace=workspace).artifacts
    with tempfile.TemporaryDirectory() as temporary:
        folder = fetch_lineage(uri, model, reference, Path(temporary))
        records = [Record.load(path) for path in sorted(folder.glob("*.json"))]
        config = workspace.resolve() / "restored" / f"{model}-{reference}" / CONFIG
        config.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(config, (folder / CONFIG).read_text())
    if not records:
        raise ArtifactMissing(f"'{model}@{reference}' has an empty lineage", where=uri, fix="deploy it again")
    datasets = [
        _restore_dataset(record, artifacts, workspace, remote)
        for record in records
        if record.artifact["kind"] == "dataset"
    ]
    moved = {each.artifact["record"]: str(_directory(each, artifacts) / "record.json") for each in records}
    placed = [_place(record, artifacts, moved) for record in records]
    release = next((record for record in records if record.stage == "deploy"), records[0])
    return Restored(config, tuple(placed), tuple(datasets), release.git_commit)


def _directory(record: Record, artifacts: Path) -> Path:
    return artifacts / record.stage / record.fingerprint[:16]


def _restore_dataset(record: Record, artifacts: Path, workspace: Path, remote: str) -> Path:
    """The dataset's bytes where the curate stage would have left them; checked against the record."""
    output = _directory(record, artifacts) / "output"
    version, digest = record.artifact["version"], record.artifact["digest"]
    if not output.is_dir() or dataset_version(output) != version:
        source = remote or str(record.config.get("remote", ""))
        checkout_version(output, version, workspace=workspace, remote=source)
    if digest_directory(output) != digest:
        raise ContractMismatch(
            f"the restored dataset is not the one of the record: version {version}",
            where=str(output),
            fix="the remote was changed by hand: restore it from a copy",
        )
    return output


def _place(record: Record, artifacts: Path, moved: dict[str, str]) -> Path:
    """Write a record where the stage would have, with the paths of this workspace.

    Args:
        moved: Path of every record on the machine that wrote it → its path here.
    """
    path = _directory(record, artifacts) / "record.json"
    if path.is_file():
        return path
    here = record.model_dump(mode="json")
    here["artifact"] |= {"uri": str(path.parent / "output"), "record": str(path)}
    for parent in here["parents"]:
        parent["record"] = moved[parent["record"]]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(here, indent=1))
    return path


def as_lines(restored: Restored, *, reference: str) -> list[str]:
    """What to tell a person."""
    lines: list[Any] = [f"config   {restored.config}"]
    lines += [f"data     {path}" for path in restored.datasets]
    lines.append(f"records  {len(restored.records)} under .opsin/artifacts; see: opsin lineage {reference}")
    if not restored.same_code:
        lines.append(f"code     made by commit {restored.git_commit}: git checkout it to run the same again")
    return lines
