"""Release steps: quantize with its fallback, export, and the canary deploy."""

from __future__ import annotations

from pathlib import Path

from components.artifacts import Bundle, Checkpoint, Dataset, Release
from components.config import LifecycleConfig
from components.deploy import deploy as deploy_stage
from components.deploy import serve_champion
from components.export import export as export_stage
from components.quantize import quantize as quantize_stage
from components.quantize import select as select_stage
from components.tracking.lineage import keep_lineage
from components.tracking.registry import incumbent
from components.tracking.runs import tracking_uri
from flows.plan import Pending
from flows.session import current
from flows.steps import step

quantize = step(quantize_stage, retries=1)
select = step(select_stage)
export = step(export_stage, retries=1)
_deploy = step(deploy_stage)


def deploy(config: LifecycleConfig, *, bundle: Bundle, baseline: Checkpoint, dataset: Dataset) -> Release:
    """Canary `bundle` against the champion (at the first release, against `baseline`).

    The champion is part of the step's identity: the same bundle against the same champion is not
    deployed twice, against another champion it is.
    """
    champion = ""
    if not isinstance(bundle, Pending):
        uri = tracking_uri(config.tracking, config.execution)
        champion = incumbent(uri, config.deploy.model_name, bundle.digest)
    release = _deploy(
        config=config.deploy, bundle=bundle, baseline=baseline, dataset=dataset, champion=champion
    )
    if not current().planning:
        tracker = current().tracker
        assert tracker is not None, "an executing session has its MLflow run"
        made_from = config.model_dump(mode="json")
        keep_lineage(tracker, Path(release.record), release.model, release.version, made_from)
        if config.deploy.keep_serving:
            serve_champion(config.deploy, dataset)  # up already, unless the release was an earlier run's
    return release
