"""Data steps: curate, and publish the version to DVC."""

from __future__ import annotations

from components.artifacts import Dataset
from components.config import CurateConfig
from components.curate import assert_no_drift
from components.curate import curate as curate_stage
from components.storage import version_dataset
from flows.session import current
from flows.steps import step

curate = step(curate_stage, retries=2)


def publish(dataset: Dataset, config: CurateConfig) -> None:
    """Bring `data/<name>`, `dvc.lock`, the DVC cache and the remote in line with `dataset`, cached or not.

    Raises:
        GateFailed: it differs by more than `max_drift` from the version that it would replace.
    """
    if not current().planning:
        assert_no_drift(dataset, config)
        version_dataset(dataset, workspace=config.execution.workspace, remote=config.remote)
