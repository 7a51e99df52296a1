"""Successive halving: which mixtures train longer, and which of them goes on."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from finished_runs import finished_run

from components.ablate import (
    ablate,
    num_candidates,
    propose,
    proxy_config,
    settle,
    shortlist,
    shortlist_config,
)
from components.ablate.design import confirm_config
from components.artifacts import Dataset, Mixture
from components.config import AblateConfig, Execution, load
from components.errors import ConfigError, GateFailed, OpsinError


@pytest.fixture
def config(tmp_path: Path) -> AblateConfig:
    return AblateConfig(execution=Execution(workspace=tmp_path), proxies=9, shortlist=2, bootstrap=200)


@pytest.fixture
def searched(tmp_path: Path, config: AblateConfig, tiny_dataset: Dataset) -> tuple[Mixture, Mixture]:
    """What a search chose, and the stratified mixture."""
    tried = [
        propose(config=config, dataset=tiny_dataset, index=str(i)) for i in range(num_candidates(config))
    ]
    proxies = [
        finished_run(
            tmp_path / f"p{i}",
            tiny_dataset.digest,
            each,
            {name: float(np.exp(-2 * weight)) for name, weight in each.weights.items()},
        )
        for i, each in enumerate(tried)
    ]
    return ablate(config=config, dataset=tiny_dataset, candidates=tried, proxies=proxies), tried[0]


def listed(config: AblateConfig, searched: Mixture) -> list[Mixture]:
    return [shortlist(config=config, searched=searched, index=str(index)) for index in range(2)]


def settled(
    tmp_path: Path,
    config: AblateConfig,
    dataset: Dataset,
    searched: tuple[Mixture, Mixture],
    losses: tuple[float, float, float],
) -> Mixture:
    candidates = [searched[1], *listed(config, searched[0])]
    longer = [
        finished_run(tmp_path / f"l{i}", dataset.digest, each, dict.fromkeys(each.weights, loss))
        for i, (each, loss) in enumerate(zip(candidates, losses, strict=True))
    ]
    return settle(config=config, dataset=dataset, searched=searched[0], candidates=candidates, proxies=longer)


def test_shortlist_is_the_optimum_and_the_best_run_besides(
    config: AblateConfig, searched: tuple[Mixture, Mixture]
) -> None:
    first, second = listed(config, searched[0])
    assert first.weights == searched[0].weights
    report = json.loads((searched[0].path / "ablation.json").read_text())
    runs = [run for run in report["runs"] if run["name"] == second.name]
    assert runs
    assert second.name != "stratified"
    with pytest.raises(OpsinError, match="a shortlist of 2"):
        shortlist(config=config, searched=searched[0], index="2")


def test_settle_takes_what_longer_training_favours(
    tmp_path: Path, config: AblateConfig, tiny_dataset: Dataset, searched: tuple[Mixture, Mixture]
) -> None:
    mixture = settled(tmp_path, config, tiny_dataset, searched, (1.0, 0.97, 0.9))
    assert mixture.name == listed(config, searched[0])[1].name
    recipe = tomllib.loads((mixture.path / "mixture.toml").read_text())
    assert recipe["weights"] == mixture.weights
    assert recipe["shortlist"]["runs"][2]["objective"] == pytest.approx(0.9)
    assert recipe["runs"]  # what the search wrote stays
    assert mixture.load_record().metrics["shortlist_gain"] == pytest.approx(0.1)


def test_settle_without_anything_better_keeps_stratified(
    tmp_path: Path, config: AblateConfig, tiny_dataset: Dataset, searched: tuple[Mixture, Mixture]
) -> None:
    mixture = settled(tmp_path, config, tiny_dataset, searched, (1.0, 1.01, 1.02))
    assert mixture.name == "stratified"
    assert "stratified kept" in json.loads((mixture.path / "shortlist.json").read_text())["verdict"]


def test_settle_with_runs_on_other_data_is_refused(
    tmp_path: Path, config: AblateConfig, tiny_dataset: Dataset, searched: tuple[Mixture, Mixture]
) -> None:
    candidates = [searched[1], *listed(config, searched[0])]
    longer = [
        finished_run(tmp_path / f"l{i}", "another", each, dict.fromkeys(each.weights, 1.0))
        for i, each in enumerate(candidates)
    ]
    with pytest.raises(GateFailed, match="same_pool"):
        settle(
            config=config, dataset=tiny_dataset, searched=searched[0], candidates=candidates, proxies=longer
        )


def test_proxy_config_is_smaller_and_confirmation_may_be_full() -> None:
    whole = load(Path("configs/cpu.toml"))
    config = AblateConfig(steps=50, shortlist=2, model={"text_layers": 2}, confirm_model="full")
    assert proxy_config(config, whole.pretrain).model.text_layers == 2
    assert sum(phase.steps for phase in shortlist_config(config, whole.pretrain).phases) == 150
    assert confirm_config(config, whole.pretrain, 0).model == whole.pretrain.model
    assert whole.pretrain.model.text_layers != 2


@pytest.mark.parametrize("model", ["{ text_layers = 0 }", "{ layers = 2 }", "{ text_width = 100 }"])
def test_proxy_model_that_is_none_is_refused_before_anything_runs(model: str) -> None:
    with pytest.raises(ConfigError, match=r"ablate\.model"):
        load(Path("configs/cpu.toml"), [f"ablate.model={model}"])
