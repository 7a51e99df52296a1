"""What each filter or source of a curation is worth: the data with and without it, a pair of proxies each.

`opsin value CONFIG` calls it. It is no part of the lifecycle; its curations and runs are cached as any are.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from prefect import flow

from components.ablate import propose as propose_stage
from components.ablate import proxy_config, without
from components.ablate import value as value_stage
from components.artifacts import Checkpoint, Dataset, Values
from components.config import AblateConfig, LifecycleConfig
from components.pretrain import pretrain as pretrain_stage
from flows import data, show
from flows.parallel import SideBySide, places
from flows.session import enter, executing
from flows.steps import Call, step

_propose, _train, _value = step(propose_stage), step(pretrain_stage, retries=1), step(value_stage)


def story(config: LifecycleConfig, units: Sequence[str], pairs: int) -> Values:
    """Curate with everything and without each unit; train pairs; compare."""
    enter("curate")
    whole = data.curate(config=config.curate)
    others = [
        data.curate.named(f"curate without {unit}")(config=without(config.curate, unit)) for unit in units
    ]
    enter("ablate")
    settings = config.ablate.model_copy(update={"recipe": "", "recipe_sha256": ""})
    calls = [
        call
        for name, dataset in zip(("everything", *units), (whole, *others), strict=True)
        for call in _pairs(config, settings, name, dataset, pairs)
    ]
    with SideBySide(settings.execution, places(settings.execution, settings.at_once)) as side_by_side:
        trained = side_by_side("proxy runs", calls)
    return _value(
        config=settings,
        dataset=whole,
        units=json.dumps(list(units)),
        others=others,
        runs_with=trained[:pairs],
        runs_without=trained[pairs:],
    )


def _pairs(
    config: LifecycleConfig, settings: AblateConfig, name: str, dataset: Dataset, pairs: int
) -> list[Call[Checkpoint]]:
    """Proxies on the stratified mixture of a dataset, each of another seed."""
    mixture = _propose.named(f"stratified {name}")(config=settings, dataset=dataset, index="0")
    calls = []
    for pair in range(pairs):
        seed = {"seed": config.pretrain.seed + pair}
        proxy = proxy_config(settings, config.pretrain).model_copy(update=seed)
        calls.append(_train.named(f"{name} {pair}").call(config=proxy, dataset=dataset, mixture=mixture))
    return calls


@flow(name="value", flow_run_name="{config.name}", persist_result=False)
def value(config: LifecycleConfig, units: list[str], pairs: int) -> Values:
    """What each of `units` is worth; a run with a report of its own."""
    with executing(config, "ablate") as session:
        values = story(config, units, pairs)
    show.report(session.directory / "report.html")
    return values
