"""The confirmation: pairs of new runs decide, and only true pairs."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from finished_runs import finished_run

from components.ablate import ablate, confirm, num_candidates, propose
from components.ablate.confirming import interval_of
from components.artifacts import Checkpoint, Dataset, Mixture
from components.config import AblateConfig, Execution
from components.errors import ArtifactMissing, OpsinError


@pytest.fixture
def config(tmp_path: Path) -> AblateConfig:
    return AblateConfig(execution=Execution(workspace=tmp_path), proxies=9, confirm_pairs=3)


def trained(directory: Path, dataset: Dataset, mixture: Mixture, *, seed: int, factor: float) -> Checkpoint:
    """A finished run with `factor` for the loss of each category."""
    losses = dict.fromkeys(mixture.weights, factor)
    return finished_run(directory, dataset.digest, mixture, losses, seed=seed)


@pytest.fixture
def mixtures(tmp_path: Path, config: AblateConfig, tiny_dataset: Dataset) -> tuple[Mixture, Mixture]:
    """What a search chose, and the stratified mixture."""
    tried = [
        propose(config=config, dataset=tiny_dataset, index=str(i)) for i in range(num_candidates(config))
    ]
    proxies = [
        finished_run(
            tmp_path / f"proxy-{i}",
            tiny_dataset.digest,
            mixture,
            {name: float(np.exp(-2 * weight)) for name, weight in mixture.weights.items()},
        )
        for i, mixture in enumerate(tried)
    ]
    return ablate(config=config, dataset=tiny_dataset, candidates=tried, proxies=proxies), tried[0]


def confirmed(
    tmp_path: Path,
    config: AblateConfig,
    dataset: Dataset,
    mixtures: tuple[Mixture, Mixture],
    factors: tuple[float, float, float],
) -> Mixture:
    """By three pairs whose contenders have `factors` times the baselines' losses."""
    searched, stratified = mixtures
    return confirm(
        config=config,
        dataset=dataset,
        searched=searched,
        stratified=stratified,
        contenders=[
            trained(tmp_path / f"c{pair}", dataset, searched, seed=pair, factor=factor)
            for pair, factor in enumerate(factors)
        ],
        baselines=[
            trained(tmp_path / f"b{pair}", dataset, stratified, seed=pair, factor=1.0) for pair in range(3)
        ],
    )


def test_confirm_of_a_gain_in_every_pair_keeps_the_searched_mixture(
    tmp_path: Path, config: AblateConfig, tiny_dataset: Dataset, mixtures: tuple[Mixture, Mixture]
) -> None:
    mixture = confirmed(tmp_path, config, tiny_dataset, mixtures, (0.95, 0.945, 0.955))
    assert mixture.weights == mixtures[0].weights
    told = json.loads((mixture.path / "confirmation.json").read_text())
    assert told["pairs"] == pytest.approx([0.05, 0.055, 0.045])
    assert "confirmed" in told["verdict"]
    recipe = tomllib.loads((mixture.path / "mixture.toml").read_text())
    assert recipe["confirmation"]["gain"]["low"] > 0
    assert recipe["validity"]["data_version"] == tiny_dataset.version  # what the search wrote stays


def test_confirm_of_pairs_that_disagree_keeps_stratified(
    tmp_path: Path, config: AblateConfig, tiny_dataset: Dataset, mixtures: tuple[Mixture, Mixture]
) -> None:
    mixture = confirmed(tmp_path, config, tiny_dataset, mixtures, (0.9, 1.05, 0.97))
    assert mixture.name == "stratified"
    assert mixture.weights == mixtures[1].weights
    gates = {gate.name: gate for gate in mixture.load_record().gates}
    assert not gates["gain_confirmed"].passed
    assert "refused" in tomllib.loads((mixture.path / "mixture.toml").read_text())["confirmation"]["verdict"]


def test_confirm_with_other_seeds_in_a_pair_is_refused(
    tmp_path: Path, config: AblateConfig, tiny_dataset: Dataset, mixtures: tuple[Mixture, Mixture]
) -> None:
    searched, stratified = mixtures
    contenders = [trained(tmp_path / f"c{i}", tiny_dataset, searched, seed=i, factor=0.9) for i in (0, 1)]
    baselines = [trained(tmp_path / f"b{i}", tiny_dataset, stratified, seed=i, factor=1.0) for i in (0, 2)]
    given = {"searched": searched, "stratified": stratified, "contenders": contenders, "baselines": baselines}
    with pytest.raises(OpsinError, match="more than their mixture"):
        confirm(config=config, dataset=tiny_dataset, **given)
    with pytest.raises(OpsinError, match=f"not trained on candidate '{searched.name}'"):
        confirm(config=config, dataset=tiny_dataset, **given | {"contenders": baselines})


def test_confirm_without_answers_says_whose(
    tmp_path: Path, config: AblateConfig, tiny_dataset: Dataset, mixtures: tuple[Mixture, Mixture]
) -> None:
    searched, stratified = mixtures
    contenders = [trained(tmp_path / f"c{i}", tiny_dataset, searched, seed=i, factor=0.9) for i in (0, 1)]
    baselines = [trained(tmp_path / f"b{i}", tiny_dataset, stratified, seed=i, factor=1.0) for i in (0, 1)]
    baselines[1].validation_answers.unlink()
    given = {"searched": searched, "stratified": stratified, "contenders": contenders, "baselines": baselines}
    with pytest.raises(ArtifactMissing, match="b1"):
        confirm(config=config, dataset=tiny_dataset, **given)


def test_interval_of_pairs_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        gain = interval_of(random.normal(0.02, 0.01, 4), 0.95)
        covered += gain.low <= 0.02 <= gain.high
    assert 0.935 < covered / 2000 < 0.965
