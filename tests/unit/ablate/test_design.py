"""The design of proxy runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.ablate import design, num_candidates, proxy_config
from components.artifacts import Dataset
from components.config import AblateConfig, Phase, PretrainConfig
from components.errors import ConfigError, OpsinError


def dataset(directory: Path, sizes: dict[str, int]) -> Dataset:
    rows = [(split, name) for name, size in sizes.items() for split in ["train"] * size + ["test"]]
    pd.DataFrame(rows, columns=["split", "category"]).to_parquet(directory / "manifest.parquet")
    return Dataset(
        uri=str(directory), digest="d", record="r", name="x", version="v", num_samples=sum(sizes.values())
    )


SIZES = {"vqa": 400, "caption": 100, "digits": 50, "chart": 5}


def test_design_holds_stratified_first_and_proportional_second(tmp_path: Path) -> None:
    candidates = design(AblateConfig(), dataset(tmp_path, SIZES))
    assert [candidate.name for candidate in candidates[:2]] == ["stratified", "proportional"]
    assert set(candidates[0].weights.values()) == {0.25}
    shares = candidates[1].weights
    assert shares["vqa"] > shares["caption"] > shares["digits"] > shares["chart"] == 0.05


def test_design_of_equal_sizes_does_not_run_stratified_twice(tmp_path: Path) -> None:
    candidates = design(AblateConfig(), dataset(tmp_path, dict.fromkeys(SIZES, 50)))
    assert len({tuple(candidate.weights.values()) for candidate in candidates}) == len(candidates) == 7
    assert "proportional" not in {candidate.name for candidate in candidates}


@settings(max_examples=25, deadline=None)
@given(
    proxies=st.integers(6, 12),
    seed=st.integers(0, 2**32 - 1),
    min_share=st.sampled_from([0.0, 0.01, 1 / 30, 0.1, 0.2]),
    concentration=st.floats(0.3, 20),
    sizes=st.lists(st.integers(1, 300), min_size=2, max_size=4),
)
def test_design_keeps_floors_and_sums_to_one(
    tmp_path_factory: pytest.TempPathFactory,
    proxies: int,
    seed: int,
    min_share: float,
    concentration: float,
    sizes: list[int],
) -> None:
    config = AblateConfig(proxies=proxies, seed=seed, min_share=min_share, concentration=concentration)
    names = {f"c{index}": size for index, size in enumerate(sizes)}
    candidates = design(config, dataset(tmp_path_factory.mktemp("d"), names))
    assert len(candidates) == num_candidates(config) == proxies + 1
    for candidate in candidates:
        assert sum(candidate.weights.values()) == pytest.approx(1, abs=1e-9)
        assert min(candidate.weights.values()) >= min_share - 1e-4


def test_design_is_the_same_for_a_seed_and_another_for_another(tmp_path: Path) -> None:
    data = dataset(tmp_path, SIZES)
    assert design(AblateConfig(seed=1), data) == design(AblateConfig(seed=1), data)
    assert design(AblateConfig(seed=1), data) != design(AblateConfig(seed=2), data)


def test_design_spreads_over_the_simplex(tmp_path: Path) -> None:
    candidates = design(AblateConfig(), dataset(tmp_path, SIZES))
    weights = np.array([list(candidate.weights.values()) for candidate in candidates])
    assert np.ptp(weights, axis=0).min() > 0.3  # every category is tried rare and frequent
    assert np.linalg.matrix_rank(weights - weights.mean(axis=0), tol=1e-3) == 3  # and independently


def test_design_with_floors_above_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="min_share"):
        design(AblateConfig(min_share=0.25), dataset(tmp_path, SIZES))


def test_design_of_one_category_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OpsinError, match="two categories"):
        design(AblateConfig(), dataset(tmp_path, {"vqa": 10}))


def test_proxy_config_shortens_phases_and_keeps_the_model() -> None:
    whole = PretrainConfig(
        phases=(
            Phase(name="connector", trainable=("connector",), steps=100, learning_rate=1e-3),
            Phase(name="all", trainable=("vision", "connector", "language"), steps=900, learning_rate=1e-3),
        )
    )
    proxy = proxy_config(AblateConfig(steps=60), whole)
    assert [phase.steps for phase in proxy.phases] == [6, 54]
    assert proxy.model == whole.model
    assert proxy.packs_per_step == 1
    assert proxy.identity() != whole.identity()


def test_design_spreads_around_a_prior_and_runs_it(tmp_path: Path) -> None:
    config = AblateConfig(
        prior={"vqa": 3, "caption": 1, "digits": 1, "chart": 1}, concentration=8.0, proxies=20
    )
    tried = {each.name: each.weights for each in design(config, dataset(tmp_path, SIZES))}
    assert tried["prior"]["vqa"] == pytest.approx(0.5, abs=1e-3)
    assert np.mean([weights["vqa"] for name, weights in tried.items() if "dirichlet" in name]) > 0.3


def test_design_keeps_a_floor_and_a_ceiling_of_a_category(tmp_path: Path) -> None:
    config = AblateConfig(floors={"caption": 0.3}, ceilings={"vqa": 0.2}, proxies=12)
    for candidate in design(config, dataset(tmp_path, SIZES)):
        if candidate.name != "stratified":  # the reference, whatever the bounds say
            assert candidate.weights["caption"] >= 0.3 - 1e-4
            assert candidate.weights["vqa"] <= 0.2 + 1e-4


def test_design_tries_the_given_mixtures_as_they_are(tmp_path: Path) -> None:
    given = {"no-chart": {"vqa": 1, "caption": 1, "digits": 2}, "books": {"vqa": 4, "chart": 1}}
    config = AblateConfig(candidates=given, proxies=6)
    tried = {each.name: each.weights for each in design(config, dataset(tmp_path, SIZES))}
    assert tried["no-chart"] == {"caption": 0.25, "chart": 0.0, "digits": 0.5, "vqa": 0.25}
    assert tried["books"]["vqa"] == 0.8
    assert len(tried) == num_candidates(config)


def test_design_varies_each_weight_of_the_prior(tmp_path: Path) -> None:
    config = AblateConfig(variation=0.2, proxies=9)
    tried = {each.name: each.weights for each in design(config, dataset(tmp_path, SIZES))}
    assert tried["more-vqa"]["vqa"] == pytest.approx(0.3, abs=2e-4)
    assert tried["less-vqa"]["vqa"] == pytest.approx(0.2, abs=2e-4)
    assert tried["more-vqa"]["chart"] == pytest.approx(0.7 / 3, abs=1e-4)


def test_design_leaves_acquired_runs_to_the_acquisition(tmp_path: Path) -> None:
    config = AblateConfig(proxies=9, acquired=3)
    assert len(design(config, dataset(tmp_path, SIZES))) == num_candidates(config) - 3


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"candidates": {"a": {"vqa": 1, "audio": 1}}}, "audio"),
        ({"candidates": {"stratified": {"vqa": 1}}}, "always run"),
        ({"floors": {"audio": 0.1}}, "audio"),
        ({"floors": {"vqa": 0.9, "chart": 0.2}}, "leave nothing"),
        ({"floors": {"vqa": 0.4}, "ceilings": {"vqa": 0.3}}, "ceilings"),
        ({"ceilings": dict.fromkeys(SIZES, 0.2)}, "ceilings"),
        ({"variation": 0.05, "proxies": 6}, "6 runs|7 runs"),
    ],
)
def test_design_refuses_what_cannot_be_kept(tmp_path: Path, fields: dict[str, object], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        design(AblateConfig.model_validate(fields), dataset(tmp_path, SIZES))
