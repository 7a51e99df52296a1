"""The stages: candidates proposed, proxies read back from their records, a mixture chosen or not."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from finished_runs import finished_run

from components.ablate import ablate, acquire, num_candidates, propose
from components.artifacts import Checkpoint, Dataset, Mixture
from components.config import AblateConfig, Execution
from components.errors import GateFailed, OpsinError


def configured(workspace: Path, **fields: object) -> AblateConfig:
    return AblateConfig.model_validate({"execution": Execution(workspace=workspace), "proxies": 9, **fields})


def candidates(config: AblateConfig, dataset: Dataset) -> list[Mixture]:
    return [
        propose(config=config, dataset=dataset, index=str(index)) for index in range(num_candidates(config))
    ]


def proxies(
    directory: Path, mixtures: list[Mixture], slope: float, noise: float, dataset: Dataset
) -> list[Checkpoint]:
    """Losses fall with the own weight by `slope` for chart; the others hardly care."""
    random = np.random.default_rng(3)
    made = []
    for index, mixture in enumerate(mixtures):
        losses = {
            name: float(np.exp((slope if name == "chart" else slope / 10) * weight + noise * random.normal()))
            for name, weight in mixture.weights.items()
        }
        made.append(finished_run(directory / f"proxy-{index}", dataset.digest, mixture, losses))
    return made


def test_propose_writes_the_mixture_it_gives(tmp_path: Path, tiny_dataset: Dataset) -> None:
    mixture = propose(config=configured(tmp_path), dataset=tiny_dataset, index="0")
    written = tomllib.loads((mixture.path / "mixture.toml").read_text())
    assert written == {"name": "stratified", "weights": mixture.weights}
    assert mixture.load_record().dataset_versions == {"tiny": "0" * 32}


def test_ablate_with_a_clear_winner_chooses_it(tmp_path: Path, tiny_dataset: Dataset) -> None:
    config = configured(tmp_path)
    tried = candidates(config, tiny_dataset)
    finished = proxies(tmp_path / "proxies", tried, slope=-2.0, noise=0.002, dataset=tiny_dataset)
    mixture = ablate(config=config, dataset=tiny_dataset, candidates=tried, proxies=finished)
    assert mixture.name == "optimum"
    assert max(mixture.weights, key=lambda name: mixture.weights[name]) == "chart"
    report = json.loads((mixture.path / "ablation.json").read_text())
    assert report["chosen"]["weights"] == mixture.weights
    record = mixture.load_record()
    assert record.metrics["gain_low"] > 0
    assert {gate.name for gate in record.gates} >= {"not_worse_than_stratified", "predictor_validated"}
    assert str(tmp_path) not in (mixture.path / "ablation.json").read_text()  # content knows no machine


def test_ablate_with_noise_keeps_stratified_and_says_so(tmp_path: Path, tiny_dataset: Dataset) -> None:
    config = configured(tmp_path)
    tried = candidates(config, tiny_dataset)
    finished = proxies(tmp_path / "proxies", tried, slope=0.0, noise=0.2, dataset=tiny_dataset)
    mixture = ablate(config=config, dataset=tiny_dataset, candidates=tried, proxies=finished)
    assert mixture.name == "stratified"
    assert set(mixture.weights.values()) == {0.25}
    gates = {gate.name: gate for gate in mixture.load_record().gates}
    assert not (gates["predictor_validated"].passed and gates["gain_over_stratified"].passed)
    assert "stratified kept" in json.loads((mixture.path / "ablation.json").read_text())["verdict"]


def test_ablate_with_swapped_proxies_is_refused(tmp_path: Path, tiny_dataset: Dataset) -> None:
    config = configured(tmp_path)
    tried = candidates(config, tiny_dataset)
    finished = proxies(tmp_path / "proxies", tried, slope=-1.0, noise=0.0, dataset=tiny_dataset)
    with pytest.raises(OpsinError, match="not trained on candidate 'stratified'"):
        ablate(config=config, dataset=tiny_dataset, candidates=tried, proxies=finished[::-1])


def test_ablate_with_a_proxy_without_losses_names_it(tmp_path: Path, tiny_dataset: Dataset) -> None:
    config = configured(tmp_path)
    tried = candidates(config, tiny_dataset)
    finished = proxies(tmp_path / "proxies", tried, slope=-1.0, noise=0.0, dataset=tiny_dataset)
    finished[2] = finished_run(tmp_path / "bad", tiny_dataset.digest, tried[2], {"vqa": 1.0, "chart": -1.0})
    with pytest.raises(OpsinError, match=tried[2].name):
        ablate(config=config, dataset=tiny_dataset, candidates=tried, proxies=finished)


def test_ablate_writes_a_recipe_that_says_what_it_rests_on(tmp_path: Path, tiny_dataset: Dataset) -> None:
    config = configured(tmp_path, price_per_hour=2.0)
    tried = candidates(config, tiny_dataset)
    finished = proxies(tmp_path / "proxies", tried, slope=-2.0, noise=0.002, dataset=tiny_dataset)
    mixture = ablate(config=config, dataset=tiny_dataset, candidates=tried, proxies=finished)
    recipe = tomllib.loads((mixture.path / "mixture.toml").read_text())
    assert recipe["weights"] == mixture.weights
    assert recipe["constraints"]["floors"]["vqa"] == config.min_share
    assert recipe["validity"]["data_version"] == tiny_dataset.version
    assert set(recipe["validity"]["categories"]) == set(mixture.weights)
    assert [run["name"] for run in recipe["runs"]] == [candidate.name for candidate in tried]
    record = mixture.load_record()
    assert record.metrics["search_flops"] == len(tried) * 1e12
    assert record.metrics["search_cost"] == pytest.approx(len(tried) / 3600 * 2.0)


def test_ablate_with_proxies_of_other_data_is_refused(tmp_path: Path, tiny_dataset: Dataset) -> None:
    config = configured(tmp_path)
    tried = candidates(config, tiny_dataset)
    finished = proxies(tmp_path / "proxies", tried, slope=-1.0, noise=0.0, dataset=tiny_dataset)
    losses = dict.fromkeys(tried[4].weights, 1.0)
    finished[4] = finished_run(tmp_path / "other", "another dataset", tried[4], losses)
    with pytest.raises(GateFailed, match=f"'{tried[4].name}' on another"):
        ablate(config=config, dataset=tiny_dataset, candidates=tried, proxies=finished)


def test_acquire_goes_where_the_runs_so_far_point(tmp_path: Path, tiny_dataset: Dataset) -> None:
    config = configured(tmp_path, acquired=2)
    tried = [propose(config=config, dataset=tiny_dataset, index=str(index)) for index in range(8)]
    finished = proxies(tmp_path / "proxies", tried, slope=-2.0, noise=0.002, dataset=tiny_dataset)
    mixture = acquire(config=config, dataset=tiny_dataset, candidates=tried, proxies=finished)
    assert mixture.name == "acquired-8"
    assert max(mixture.weights, key=lambda name: mixture.weights[name]) == "chart"
    assert min(mixture.weights.values()) >= config.min_share - 1e-4
    assert mixture.weights not in [each.weights for each in tried]
