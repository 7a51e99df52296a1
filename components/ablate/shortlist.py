"""Successive halving: the search's best few mixtures train longer, and the best of them goes on.

Short runs rank mixtures by what is learned first. So the stages here take the shortlist that `ablate` left
(`shortlist` writes one of it as a mixture) and, once each has trained longer, keep the best (`settle`). What
they promise is still too good, since it is picked; `confirm` decides.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from components.ablate.choosing import finished_runs
from components.ablate.design import category_sizes
from components.ablate.lineage import pools
from components.ablate.objective import objective_of
from components.ablate.recipe import write_recipe
from components.artifacts import Checkpoint, Dataset, Mixture
from components.config import AblateConfig
from components.errors import OpsinError
from components.gates.mixture import same_pool
from components.stage import Fields, Run, stage

FILE: Final = "shortlist.json"


@stage("shortlist", Mixture)
def shortlist(run: Run, *, config: AblateConfig, searched: Mixture, index: str) -> Fields:
    """Write a mixture of the search's shortlist.

    Raises:
        OpsinError: the shortlist is shorter.
    """
    listed = json.loads((searched.path / FILE).read_text())
    if int(index) >= len(listed):
        raise OpsinError(
            f"the search left a shortlist of {len(listed)}, so it has no mixture {index}",
            where="ablate.shortlist",
            fix="lower it, or raise ablate.proxies",
        )
    one = listed[int(index)]
    write_recipe(run.output, one["name"], one["weights"])
    return {"name": one["name"], "weights": one["weights"]}


@stage("settle", Mixture)
def settle(
    run: Run,
    *,
    config: AblateConfig,
    dataset: Dataset,
    searched: Mixture,
    candidates: list[Mixture],
    proxies: list[Checkpoint],
) -> Fields:
    """Keep the mixture whose longer run has the least objective.

    Args:
        candidates: The stratified mixture first, then the shortlist.
        proxies: Their longer runs, in the same order.

    Raises:
        OpsinError: a run was not trained on its candidate, or has no finite validation loss.
        GateFailed: a run was trained on other data.
    """
    categories = sorted(category_sizes(dataset))
    names = [each.name for each in candidates]
    run.gate(same_pool(dict(zip(names, map(pools, proxies), strict=True)), dataset.digest))
    runs = finished_runs(config, dataset, categories, candidates, proxies)
    objective = objective_of(config, categories, runs[0])
    values = objective(np.array([[each.losses[name] for name in objective.targets] for each in runs]))
    best = int(values.argmin())
    told = {
        "steps": [_steps(proxy) for proxy in proxies],
        "runs": [
            {"name": each.name, "weights": each.weights, "losses": each.losses, "objective": _short(value)}
            for each, value in zip(runs, values, strict=True)
        ],
        "chosen": names[best],
        "verdict": _verdict(names, [float(value) for value in values], best),
    }
    recipe = tomllib.loads((searched.path / "mixture.toml").read_text())
    rest = {key: value for key, value in recipe.items() if key not in ("name", "weights")}
    weights = dict(candidates[best].weights)
    write_recipe(run.output, names[best], weights, rest | {"shortlist": told})
    (run.output / FILE).write_text(json.dumps(told, indent=1))
    records = [each.load_record() for each in proxies]
    run.metrics.update(
        shortlist_gain=float(1 - values[best] / values[0]),
        shortlist_flops=sum(record.metrics.get("flops", 0.0) for record in records),
        shortlist_hours=sum(record.seconds for record in records) / 3600,
    )
    return {"name": names[best], "weights": weights}


def _steps(proxy: Checkpoint) -> int:
    return int(proxy.load_record().metrics.get("steps", 0))


def _verdict(names: Sequence[str], values: Sequence[float], best: int) -> str:
    told = ", ".join(f"{name} {value:.4f}" for name, value in zip(names, values, strict=True))
    if not best:
        return f"stratified kept: after longer runs nothing of the shortlist is better ({told})"
    return f"{names[best]} is the best of the shortlist after longer runs ({told})"


def _short(value: Any) -> float:
    return round(float(value), 6)
