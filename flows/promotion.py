"""Deploy one finished bundle on its own: the same canary, without training anything.

`opsin deploy CONFIG BUNDLE` calls it, for example to roll an earlier release out again.
"""

from __future__ import annotations

from prefect import flow

from components.artifacts import Bundle, Checkpoint, Dataset
from components.config import LifecycleConfig
from flows import release, show
from flows.session import enter, executing


@flow(name="promote", flow_run_name="{config.name}", persist_result=False)
def promote(config: LifecycleConfig, bundle: Bundle, baseline: Checkpoint, dataset: Dataset) -> None:
    """Canary `bundle` against the champion and move the aliases by the verdict."""
    with executing(config, None) as session:
        enter("deploy")
        release.deploy(config, bundle=bundle, baseline=baseline, dataset=dataset)
    show.report(session.directory / "report.html")
