"""What a filter or a source is worth: what can be left out, and what pairs of runs say of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from finished_runs import finished_run

from components.ablate import propose, units_of, value, without
from components.artifacts import Dataset, Mixture
from components.config import AblateConfig, Execution, load
from components.errors import ConfigError, GateFailed, OpsinError

CURATE = load(Path("configs/cpu.toml")).curate


def test_units_are_what_the_config_asks_for() -> None:
    units = units_of(CURATE)
    assert {"safety", "text.languages", "text.max_repeats", "source:npm:@iconify-json/noto==1.2.9"} <= set(
        units
    )
    assert "alignment" not in units  # is off
    assert not any("fluent-emoji" in unit or "easy-vqa" in unit for unit in units)  # held out; all of vqa


def test_without_leaves_out_one_thing_only() -> None:
    assert without(CURATE, "safety").safety is None
    loose = without(CURATE, "text.languages")
    assert all(source.text.languages == () for source in loose.sources)
    assert [source.text.max_repeats for source in loose.sources] == [
        source.text.max_repeats for source in CURATE.sources
    ]
    fewer = without(CURATE, "source:npm:@iconify-json/noto==1.2.9")
    assert len(fewer.sources) == len(CURATE.sources) - 1


def test_every_default_unit_can_be_left_out() -> None:
    for unit in units_of(CURATE):
        assert without(CURATE, unit) != CURATE


@pytest.mark.parametrize(
    ("unit", "why"),
    [
        ("duplicates", "no such part"),
        ("alignment", "no such part"),
        ("text.personal_data", "no such part"),
        ("source:pypi:nothing==1", "no such source"),
        ("source:pypi:easy-vqa==1.0", "nothing else gives training samples of 'vqa'"),
    ],
)
def test_without_what_cannot_be_left_out_says_why(unit: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        without(CURATE, unit)


@pytest.fixture
def config(tmp_path: Path) -> AblateConfig:
    return AblateConfig(execution=Execution(workspace=tmp_path))


@pytest.fixture
def stratified(config: AblateConfig, tiny_dataset: Dataset) -> Mixture:
    return propose(config=config, dataset=tiny_dataset, index="0")


def test_value_tells_what_helps_from_what_hurts_and_from_what_is_not_known(
    tmp_path: Path, config: AblateConfig, tiny_dataset: Dataset, stratified: Mixture
) -> None:
    factors = {"helps": (1.1, 1.11, 1.12), "hurts": (0.9, 0.91, 0.9), "unknown": (1.1, 0.9, 1.02)}
    others = {name: tiny_dataset.model_copy(update={"digest": name, "num_samples": 100}) for name in factors}

    def run(where: str, dataset: str, seed: int, factor: float) -> object:
        losses = dict.fromkeys(stratified.weights, factor)
        return finished_run(tmp_path / where, dataset, stratified, losses, seed=seed)

    values = value(
        config=config,
        dataset=tiny_dataset,
        units=json.dumps(list(factors)),
        others=list(others.values()),
        runs_with=[run(f"with-{seed}", tiny_dataset.digest, seed, 1.0) for seed in range(3)],
        runs_without=[
            run(f"{name}-{seed}", others[name].digest, seed, factor)
            for name, each in factors.items()
            for seed, factor in enumerate(each)
        ],
    )
    told = json.loads((values.path / "value.json").read_text())
    assert {name: row["verdict"] for name, row in told["units"].items()} == {
        "helps": "helps",
        "hurts": "hurts",
        "unknown": "not told apart",
    }
    row = told["units"]["helps"]
    assert row["gains"] == pytest.approx([1 - 1 / 1.1, 1 - 1 / 1.11, 1 - 1 / 1.12])
    assert row["low"] < row["value"] < row["high"]
    assert row["samples"] == tiny_dataset.num_samples - 100
    assert values.load_record().metrics["gain/helps"] == pytest.approx(row["value"])


def test_value_of_runs_that_are_no_pair_is_refused(
    tmp_path: Path, config: AblateConfig, tiny_dataset: Dataset, stratified: Mixture
) -> None:
    other = tiny_dataset.model_copy(update={"digest": "other"})
    losses = dict.fromkeys(stratified.weights, 1.0)
    given = {"config": config, "dataset": tiny_dataset, "units": '["safety"]', "others": [other]}
    mine = [
        finished_run(tmp_path / f"w{seed}", tiny_dataset.digest, stratified, losses, seed=seed)
        for seed in (0, 1)
    ]
    apart = [finished_run(tmp_path / f"o{seed}", "other", stratified, losses, seed=seed) for seed in (0, 2)]
    with pytest.raises(OpsinError, match="more than their mixture"):
        value(**given, runs_with=mine, runs_without=apart)
    with pytest.raises(GateFailed, match="same_pool"):
        value(**given, runs_with=mine, runs_without=mine)
