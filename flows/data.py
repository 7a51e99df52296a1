"""Data steps: curate, and publish the version to DVC."""

from __future__ import annotations

from components.artifacts import Dataset
from components.config import CurateConfig
from components.curate import curate as curate_stage
from components.storage import version_dataset
from flows.session import current
from flows.steps import step

curate = step(curate_stage, retries=2)


def publish(dataset: Dataset, config: CurateConfig) -> None:
    """Bring `data/<name>`, `dvc.lock`, the DVC cache and the remote in line with `dataset`, cached or not."""
    if not current().planning:
        version_dataset(dataset, workspace=config.execution.workspace, remote=config.remote)
