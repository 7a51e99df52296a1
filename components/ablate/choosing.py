"""The stages: `propose` writes a candidate mixture, `acquire` the next one worth a run, `ablate` fits the
finished proxies and chooses.

`ablate` keeps the stratified mixture unless the predictor ranks runs it has not seen and is sure of a
gain. Writes `output/mixture.toml` (the recipe) and `output/ablation.json`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from components.ablate.design import category_sizes, design
from components.ablate.lineage import assert_trained_on, pools
from components.ablate.objective import ERROR, LEAST_ERROR, objective_of, owner, targets_of
from components.ablate.recipe import recipe_of, write_recipe
from components.ablate.reuse import (
    assert_like,
    changes_since,
    pin_recipe,
    read_recipe,
    runs_again,
    transferred,
)
from components.ablate.search import next_mixture
from components.ablate.simplex import bounds_of, floors_of, rounded
from components.ablate.study import as_observed, shortlist_of, stratified_of, study_runs
from components.ablate.telling import report_of
from components.ablate.types import Candidate, ProxyRun
from components.artifacts import Checkpoint, Dataset, Mixture, Record
from components.config import AblateConfig
from components.errors import OpsinError
from components.gates.mixture import (
    gain_certain,
    not_worse_than_stratified,
    predictor_validated,
    same_pool,
    valid_mixture,
)
from components.stage import Fields, Run, stage


@stage("propose", Mixture, pin=pin_recipe)
def propose(run: Run, *, config: AblateConfig, dataset: Dataset, index: str) -> Fields:
    """Write the mixture that proxy run `index` trains on: of `candidates_of`, so known before any run."""
    candidate = candidates_of(config, dataset)[int(index)]
    run.gate(valid_mixture(candidate.weights, list(category_sizes(dataset)), {}))
    write_recipe(run.output, candidate.name, candidate.weights)
    return {"name": candidate.name, "weights": candidate.weights}


def candidates_of(config: AblateConfig, dataset: Dataset) -> list[Candidate]:
    """Mixtures for the first proxy runs: the design's, or those of a recipe's runs that are repeated."""
    return runs_again(config, dataset) if config.recipe else design(config, dataset)


@stage("acquire", Mixture)
def acquire(
    run: Run,
    *,
    config: AblateConfig,
    dataset: Dataset,
    candidates: list[Mixture],
    proxies: list[Checkpoint],
) -> Fields:
    """Write the mixture that is worth the next run, as the finished ones tell.

    Raises:
        OpsinError: as of `ablate`.
    """
    categories = sorted(category_sizes(dataset))
    runs = finished_runs(config, dataset, categories, candidates, proxies)
    objective = objective_of(config, categories, stratified_of(runs))
    bounds = bounds_of(config, categories)
    found = next_mixture(
        as_observed(runs, categories, objective.targets), objective, bounds, seed=config.seed
    )
    weights = dict(zip(categories, rounded(found), strict=True))
    name = f"acquired-{len(runs)}"
    write_recipe(run.output, name, weights)
    return {"name": name, "weights": weights}


@stage("ablate", Mixture, pin=pin_recipe)
def ablate(
    run: Run,
    *,
    config: AblateConfig,
    dataset: Dataset,
    candidates: list[Mixture],
    proxies: list[Checkpoint],
) -> Fields:
    """Choose the mixture with the best predicted objective, or keep the stratified one.

    Args:
        candidates: Mixtures of the proxy runs; one of them is stratified.
        proxies: Their checkpoints, in the same order; their records hold `validation_loss/<category>`.

    Raises:
        OpsinError: a proxy was not trained on its candidate, or has no finite validation loss.
        ConfigError: `objective` names what is no target, or floors and ceilings what is no category.
        GateFailed: a proxy was trained on other data, or the mixture is not one, breaks a bound, or is
            predicted worse than stratified.
    """
    sizes = category_sizes(dataset)
    categories = sorted(sizes)
    trained_on = {each.name: pools(proxy) for each, proxy in _pairs(candidates, proxies)}
    run.gate(same_pool(trained_on, dataset.digest))
    runs = finished_runs(config, dataset, categories, candidates, proxies)
    if config.recipe:
        recipe = read_recipe(config)
        assert_like(recipe, proxies)
        runs = transferred(config, categories, recipe, runs, changes_since(recipe, dataset).other)
        run.metrics["runs_reused"] = float(len(runs) - len(proxies))
    study = study_runs(config, categories, runs, sizes)
    validated = run.gate(predictor_validated(study.rank_correlation, config.min_rank_correlation, len(runs)))
    certain = run.gate(
        gain_certain(study.gain.value, study.gain.low, study.gain.high, minimum=config.min_gain)
    )
    chosen = study.optimum if validated.passed and certain.passed else study.stratified
    if chosen is study.optimum:
        run.gate(valid_mixture(chosen.weights, categories, floors_of(config, categories)))
    run.gate(
        not_worse_than_stratified(
            study.predicted(chosen), study.predicted(study.stratified), name=chosen.name
        )
    )
    report = report_of(study, chosen)
    write_recipe(run.output, chosen.name, chosen.weights, recipe_of(config, dataset, proxies, study, report))
    listed = [{"name": each.name, "weights": each.weights} for each in shortlist_of(study)]
    (run.output / "shortlist.json").write_text(json.dumps(listed, indent=1))
    (run.output / "ablation.json").write_text(json.dumps(report, indent=1))
    run.metrics.update(
        rank_correlation=study.rank_correlation,
        gain=study.gain.value,
        gain_low=study.gain.low,
        gain_high=study.gain.high,
        regret=study.regret,
        **_cost(config, proxies),
        **{f"weight/{name}": weight for name, weight in chosen.weights.items()},
    )
    return {"name": chosen.name, "weights": chosen.weights}


def _cost(config: AblateConfig, proxies: Sequence[Checkpoint]) -> dict[str, float]:
    """What the search was charged: the proxies' operations, hours and money."""
    records = [proxy.load_record() for proxy in proxies]
    hours = sum(record.seconds for record in records) / 3600
    return {
        "search_flops": sum(record.metrics.get("flops", 0.0) for record in records),
        "search_tokens": sum(record.metrics.get("tokens", 0.0) for record in records),
        "search_hours": hours,
        "search_cost": hours * config.price_per_hour,
    }


def _pairs(candidates: list[Mixture], proxies: list[Checkpoint]) -> list[tuple[Mixture, Checkpoint]]:
    if len(candidates) != len(proxies):
        raise OpsinError(
            f"{len(candidates)} candidates but {len(proxies)} proxies",
            fix="give one proxy for each candidate, in the same order",
        )
    return list(zip(candidates, proxies, strict=True))


def finished_runs(
    config: AblateConfig,
    dataset: Dataset,
    categories: list[str],
    candidates: list[Mixture],
    proxies: list[Checkpoint],
) -> list[ProxyRun]:
    targets = targets_of(config, categories)
    return [_finished(each, proxy, targets) for each, proxy in _pairs(candidates, proxies)]


def _finished(candidate: Mixture, proxy: Checkpoint, targets: Sequence[str]) -> ProxyRun:
    record = proxy.load_record()
    assert_trained_on(proxy, candidate)
    losses = {target: _measured(record, target) for target in targets}
    bad = [name for name, loss in losses.items() if not (np.isfinite(loss) and loss > 0)]
    if bad:
        raise OpsinError(
            f"proxy '{candidate.name}' has no finite validation loss for {', '.join(bad)}",
            where=proxy.record,
            fix="see its metrics; a diverged proxy wants a lower learning rate in pretrain.phases",
        )
    return ProxyRun(candidate.name, dict(candidate.weights), losses)


def _measured(record: Record, target: str) -> float:
    if target.startswith(ERROR):
        return max(record.metrics.get(f"validation_error/{owner(target)}", float("nan")), LEAST_ERROR)
    return record.metrics.get(f"validation_loss/{target}", float("nan"))
