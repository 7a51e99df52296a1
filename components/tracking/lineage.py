"""The lineage that goes with a registered model: every record behind it and the config, kept in MLflow.

A workspace can be lost; what made a released model must not be.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import RunTag

from components.artifacts import Record
from components.config import to_toml
from components.errors import ArtifactMissing
from components.tracking.registry import version_of
from components.tracking.runs import Tracker

RUN = "opsin.run"
"""Tag of a model version: the MLflow run that keeps its lineage."""
FOLDER = "lineage"
CONFIG = "config.toml"


def ancestors(path: Path) -> Iterator[tuple[Path, Record]]:
    """The record at `path` and every record behind it, each once.

    Raises:
        ArtifactMissing: one of them is gone.
    """
    pending, seen = [path], set[str]()
    while pending:
        current = pending.pop()
        record = Record.load(current)
        if record.fingerprint not in seen:
            seen.add(record.fingerprint)
            yield current, record
            pending += [Path(parent.record) for parent in record.parents]


def keep_lineage(tracker: Tracker, release: Path, model: str, version: str, config: dict[str, Any]) -> None:
    """Put all records behind a release, and the config, into its MLflow run, and name that on the version.

    Args:
        release: Record of the deploy stage.
        config: The lifecycle's config as JSON values.
    """
    with tempfile.TemporaryDirectory() as temporary:
        for _, record in ancestors(release):
            name = f"{record.stage}-{record.fingerprint[:16]}.json"
            (Path(temporary) / name).write_text(record.model_dump_json(indent=1))
        (Path(temporary) / CONFIG).write_text(to_toml(config))
        tracker.client.log_artifacts(tracker.parent, temporary, FOLDER)
    tracker.client.log_batch(tracker.parent, tags=[RunTag("opsin.model", f"{model}@{version}")])
    tracker.client.set_model_version_tag(model, version, RUN, tracker.parent)


def fetch_lineage(uri: str, model: str, reference: str, directory: Path) -> Path:
    """Download the lineage of a model version (number or alias) into `directory`; gives its folder.

    Raises:
        ArtifactMissing: no such version, or it was registered without its lineage.
    """
    version = version_of(uri, model, reference)
    run = version.tags.get(RUN, "")
    if not run:
        raise ArtifactMissing(
            f"'{model}@{reference}' was registered without its lineage",
            where=uri,
            fix="only versions that `opsin run` deployed can be restored",
        )
    directory.mkdir(parents=True, exist_ok=True)
    found = MlflowClient(tracking_uri=uri).get_run(run).info.artifact_uri
    return Path(download_artifacts(f"{found}/{FOLDER}", dst_path=str(directory), tracking_uri=uri))
