"""MLflow runs: one parent per lifecycle, a nested one per stage, filled from the stage's record.

Stages know nothing of MLflow: they leave `record.json` and `metrics.jsonl`, which also serve the
report and lineage. So a run started by hand (`python -m components.pretrain`) is logged the same way.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset as MlflowDataset
from mlflow.entities import DatasetInput, Metric, Param, RunTag

from components.artifacts import Record
from components.config import Execution, TrackingConfig

PAGES = ("gallery.html", "data_docs")
"""What a stage may leave in its logs for people to look at, also in MLflow."""
MAX_BATCH = 1000
"""Metrics that MLflow takes in one call."""


def tracking_uri(config: TrackingConfig, execution: Execution) -> str:
    """The configured MLflow URI, or SQLite in the workspace."""
    return config.uri or f"sqlite:///{execution.home / 'mlflow.db'}"


@dataclass(frozen=True)
class Tracker:
    """The open MLflow run of one lifecycle."""

    client: MlflowClient
    experiment: str
    parent: str

    def log_stage(self, name: str, record_path: Path, *, cached: bool) -> str:
        """Log one finished stage as a nested run; gives its MLflow run id."""
        record = Record.load(record_path)
        run = self.client.create_run(
            self.experiment,
            run_name=name,
            tags={
                "mlflow.parentRunId": self.parent,
                "opsin.stage": record.stage,
                "opsin.fingerprint": record.fingerprint,
                "opsin.digest": record.artifact["digest"],
                "opsin.record": str(record_path),
                "opsin.cached": str(cached).lower(),
                "mlflow.source.git.commit": record.git_commit,
            },
        )
        run_id = str(run.info.run_id)
        params = [Param(key, value[:500]) for key, value in flatten(record.identity.config).items()]
        self.client.log_batch(run_id, params=params[:100])
        self._log_metrics(run_id, record, record_path)
        inputs = [
            DatasetInput(
                MlflowDataset(name=dataset, digest=version[:36], source_type="dvc", source=f"data/{dataset}")
            )
            for dataset, version in record.dataset_versions.items()
        ]
        if inputs:
            self.client.log_inputs(run_id, inputs)
        self.client.log_artifact(run_id, str(record_path))
        for name in () if cached else PAGES:
            path = record_path.parent / "logs" / name
            if path.is_dir():
                self.client.log_artifacts(run_id, str(path), name)
            elif path.is_file():
                self.client.log_artifact(run_id, str(path))
        self.client.set_terminated(run_id)
        return run_id

    def _log_metrics(self, run_id: str, record: Record, record_path: Path) -> None:
        now = 0
        metrics: list[Metric] = []
        steps = record_path.parent / "metrics.jsonl"
        if steps.exists():
            for line in steps.read_text().splitlines():
                values = json.loads(line)
                step, now = values.pop("step"), int(values.pop("time") * 1000)
                metrics += [Metric(clean(key), float(value), now, step) for key, value in values.items()]
        finals = record.metrics | {"seconds": record.seconds}
        metrics += [Metric(clean(key), float(value), now, 0) for key, value in finals.items()]
        metrics = [metric for metric in metrics if math.isfinite(metric.value)]
        for start in range(0, len(metrics), MAX_BATCH):
            self.client.log_batch(run_id, metrics=metrics[start : start + MAX_BATCH])

    def close(self, *, status: str, tags: dict[str, str], files: list[Path]) -> None:
        """End the parent run with its verdict and attach files (the report)."""
        self.client.log_batch(self.parent, tags=[RunTag(key, value) for key, value in tags.items()])
        for path in files:
            self.client.log_artifact(self.parent, str(path))
        self.client.set_terminated(self.parent, status=status)


def open_tracker(
    uri: str, experiment: str, *, run_id: str, config: dict[str, Any], artifacts: Path
) -> Tracker:
    """Open the parent run of a lifecycle; makes the experiment where it is missing."""
    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    local = uri.startswith("sqlite:")
    experiment_id = (
        found.experiment_id
        if found
        else client.create_experiment(experiment, artifact_location=artifacts.as_uri() if local else None)
    )
    run = client.create_run(experiment_id, run_name=run_id, tags={"opsin.run_id": run_id})
    params = [Param(key, value[:500]) for key, value in flatten(config).items()]
    for start in range(0, len(params), 100):
        client.log_batch(run.info.run_id, params=params[start : start + 100])
    return Tracker(client, experiment_id, run.info.run_id)


def clean(key: str) -> str:
    """A metric or parameter name with only the characters that MLflow allows."""
    return "".join(char if char.isalnum() or char in "_-./ :" else "_" for char in key)


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested config → dotted keys and text values."""
    flat: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[clean(f"{prefix}{key}")] = json.dumps(value) if isinstance(value, list) else str(value)
    return flat
