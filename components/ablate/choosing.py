"""The stages: `propose` writes one candidate mixture, `ablate` fits the finished proxies and chooses.

`ablate` keeps the stratified mixture unless the predictor ranks runs it has not seen and is sure of a
gain. Writes `output/mixture.toml` and `output/ablation.json`.
"""

from __future__ import annotations

import json

import numpy as np
import tomli_w

from components.ablate.design import category_sizes, design
from components.ablate.study import study_runs
from components.ablate.types import Candidate, ProxyRun
from components.artifacts import Checkpoint, Dataset, Mixture
from components.config import AblateConfig
from components.errors import OpsinError
from components.gates.mixture import (
    gain_certain,
    not_worse_than_stratified,
    predictor_validated,
    valid_mixture,
)
from components.stage import Fields, Run, stage


@stage("propose", Mixture)
def propose(run: Run, *, config: AblateConfig, dataset: Dataset, index: str) -> Fields:
    """Write the mixture that proxy run `index` (0 to `num_candidates(config)` - 1) trains on."""
    candidate = design(config, dataset)[int(index)]
    run.gate(valid_mixture(candidate.weights, list(category_sizes(dataset)), config.min_share))
    _write(run, candidate)
    return {"name": candidate.name, "weights": candidate.weights}


@stage("ablate", Mixture)
def ablate(
    run: Run,
    *,
    config: AblateConfig,
    dataset: Dataset,
    candidates: list[Mixture],
    proxies: list[Checkpoint],
) -> Fields:
    """Choose the mixture with the best predicted losses, or keep the stratified one.

    Args:
        candidates: Mixtures of the proxy runs; one of them is stratified.
        proxies: Their checkpoints, in the same order; their records hold `validation_loss/<category>`.

    Raises:
        OpsinError: a proxy was not trained on its candidate, or has no finite validation loss.
        ConfigError: `objective` names a category that the dataset does not have.
        GateFailed: the mixture is not one, breaks a floor, or is predicted worse than stratified.
    """
    categories = sorted(category_sizes(dataset))
    runs = [
        _finished(candidate, proxy, categories) for candidate, proxy in zip(candidates, proxies, strict=True)
    ]
    study = study_runs(config, categories, runs)
    validated = run.gate(predictor_validated(study.rank_correlation, config.min_rank_correlation, len(runs)))
    certain = run.gate(gain_certain(study.gain.value, study.gain.low, study.gain.high))
    chosen = study.optimum if validated.passed and certain.passed else study.stratified
    run.gate(valid_mixture(chosen.weights, categories, config.min_share))
    run.gate(
        not_worse_than_stratified(
            study.predicted(chosen), study.predicted(study.stratified), name=chosen.name
        )
    )
    _write(run, chosen)
    (run.output / "ablation.json").write_text(json.dumps(study.report(chosen), indent=1))
    run.metrics.update(
        rank_correlation=study.rank_correlation,
        gain=study.gain.value,
        gain_low=study.gain.low,
        gain_high=study.gain.high,
        **{f"weight/{name}": weight for name, weight in chosen.weights.items()},
    )
    return {"name": chosen.name, "weights": chosen.weights}


def _finished(candidate: Mixture, proxy: Checkpoint, categories: list[str]) -> ProxyRun:
    record = proxy.load_record()
    if candidate.digest not in {parent.digest for parent in record.parents}:
        raise OpsinError(
            f"proxy was not trained on candidate '{candidate.name}'",
            where=proxy.record,
            fix="hand candidates and proxies over in the same order",
        )
    losses = {name: record.metrics.get(f"validation_loss/{name}", float("nan")) for name in categories}
    bad = [name for name, loss in losses.items() if not (np.isfinite(loss) and loss > 0)]
    if bad:
        raise OpsinError(
            f"proxy '{candidate.name}' has no finite validation loss for {', '.join(bad)}",
            where=proxy.record,
            fix="see its metrics; a diverged proxy wants a lower learning rate in pretrain.phases",
        )
    return ProxyRun(candidate.name, dict(candidate.weights), losses)


def _write(run: Run, mixture: Candidate) -> None:
    text = tomli_w.dumps({"name": mixture.name, "weights": mixture.weights})
    (run.output / "mixture.toml").write_text(text)
