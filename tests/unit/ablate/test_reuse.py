"""A recipe used again: as it is on the same data, after few runs where a category changed, else refused."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
from finished_runs import finished_run

from components.ablate import ablate, adopt, candidates_of, num_candidates, propose
from components.ablate.reuse import changes_since, read_recipe, transferred
from components.ablate.types import ProxyRun
from components.artifacts import Dataset, Mixture
from components.config import AblateConfig, Execution
from components.errors import ConfigError, GateFailed, OpsinError

SLOPES = {"vqa": -0.2, "caption": -0.5, "digits": -1.0, "chart": -2.0}


def losses(weights: dict[str, float], *, changed: str = "") -> dict[str, float]:
    """Losses fall with the own weight; a `changed` category is worse, the more of it is seen."""
    found = {name: float(np.exp(SLOPES[name] * weight)) for name, weight in weights.items()}
    if changed:
        found[changed] *= float(np.exp(0.3 + 1.5 * weights[changed]))
    return found


@pytest.fixture
def config(tmp_path: Path) -> AblateConfig:
    return AblateConfig(execution=Execution(workspace=tmp_path), proxies=15, bootstrap=200)


@pytest.fixture
def searched(tmp_path: Path, config: AblateConfig, tiny_dataset: Dataset) -> Mixture:
    """What a search on the data as they are left."""
    tried = [
        propose(config=config, dataset=tiny_dataset, index=str(i)) for i in range(num_candidates(config))
    ]
    proxies = [
        finished_run(tmp_path / f"p{i}", tiny_dataset.digest, each, losses(each.weights))
        for i, each in enumerate(tried)
    ]
    return ablate(config=config, dataset=tiny_dataset, candidates=tried, proxies=proxies)


def recipe_with(searched: Mixture, tmp_path: Path, **changes: str) -> Path:
    """The recipe as it would be if the data of some categories had other digests."""
    text = (searched.path / "mixture.toml").read_text()
    for name, digest in tomllib.loads(text)["validity"]["categories"].items():
        if name in changes:
            text = text.replace(f'{name} = "{digest}"', f'{name} = "{changes[name]}"')
    path = tmp_path / "mixture.toml"
    path.write_text(text)
    return path


def test_adopt_on_the_same_data_takes_the_weights_as_they_are(
    tmp_path: Path, config: AblateConfig, tiny_dataset: Dataset, searched: Mixture
) -> None:
    again = config.model_copy(update={"recipe": str(searched.path / "mixture.toml")})
    assert candidates_of(again, tiny_dataset) == []  # nothing is run
    mixture = adopt(config=again, dataset=tiny_dataset)
    assert mixture.weights == searched.weights
    assert mixture.name == searched.name
    kept = tomllib.loads((mixture.path / "mixture.toml").read_text())
    assert kept["provenance"] == tomllib.loads((searched.path / "mixture.toml").read_text())["provenance"]


def test_adopt_on_changed_data_without_proxies_says_what_changed(
    tmp_path: Path, config: AblateConfig, tiny_dataset: Dataset, searched: Mixture
) -> None:
    path = recipe_with(searched, tmp_path, chart="0" * 64)
    again = config.model_copy(update={"recipe": str(path), "proxies": 0})
    with pytest.raises(GateFailed, match=r"other samples of chart; required.*\n.*\n.*ablate.proxies above 0"):
        adopt(config=again, dataset=tiny_dataset)


def test_adopt_of_a_recipe_for_other_categories_wants_a_new_search(
    tmp_path: Path, config: AblateConfig, tiny_dataset: Dataset
) -> None:
    (tmp_path / "mine.toml").write_text('name = "mine"\n[weights]\nvqa = 1\nvideo = 1\n')
    again = config.model_copy(update={"recipe": str(tmp_path / "mine.toml")})
    assert candidates_of(again, tiny_dataset) == []
    with pytest.raises(GateFailed, match="no more video; never seen by its runs: caption, chart, digits"):
        adopt(config=again, dataset=tiny_dataset)


def test_adopt_of_a_recipe_that_a_person_wrote(
    tmp_path: Path, config: AblateConfig, tiny_dataset: Dataset
) -> None:
    (tmp_path / "mine.toml").write_text(
        'name = "mine"\n[weights]\nvqa = 1\ncaption = 2\nchart = 1\ndigits = 4\n'
    )
    mixture = adopt(
        config=config.model_copy(update={"recipe": str(tmp_path / "mine.toml")}), dataset=tiny_dataset
    )
    assert mixture.weights == {"vqa": 0.125, "caption": 0.25, "chart": 0.125, "digits": 0.5}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("weights = 3", "is no recipe"),
        ('name = "x"\n[weights]\nvqa = -1\nchart = 2', "not positive"),
        ("not toml at all", "is no recipe"),
        (None, "there is no recipe"),
    ],
)
def test_adopt_of_what_is_no_recipe_says_why(
    tmp_path: Path, config: AblateConfig, tiny_dataset: Dataset, text: str | None, why: str
) -> None:
    path = tmp_path / "bad.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=why):
        adopt(config=config.model_copy(update={"recipe": str(path)}), dataset=tiny_dataset)


def test_adopt_of_another_recipe_than_pinned_is_refused(
    tmp_path: Path, config: AblateConfig, tiny_dataset: Dataset, searched: Mixture
) -> None:
    pinned = {"recipe": str(searched.path / "mixture.toml"), "recipe_sha256": "0" * 64}
    with pytest.raises(ConfigError, match="the config asks for 0000"):
        adopt(config=config.model_copy(update=pinned), dataset=tiny_dataset)


def test_changed_category_repeats_a_quarter_of_the_runs_that_differ_most_in_it(
    tmp_path: Path, config: AblateConfig, tiny_dataset: Dataset, searched: Mixture
) -> None:
    path = recipe_with(searched, tmp_path, chart="0" * 64)
    again = config.model_copy(update={"recipe": str(path)})
    repeated = candidates_of(again, tiny_dataset)
    recipe = read_recipe(again)
    assert len(repeated) == len(recipe.runs) // 4 == 4
    assert repeated[0].name == "stratified"
    shares = [each.weights["chart"] for each in repeated]
    assert max(shares) == max(run.weights["chart"] for run in recipe.runs)


def test_reuse_after_a_category_got_worse_finds_what_a_whole_new_search_finds(
    tmp_path: Path, config: AblateConfig, tiny_dataset: Dataset, searched: Mixture
) -> None:
    path = recipe_with(searched, tmp_path, chart="0" * 64)
    again = config.model_copy(update={"recipe": str(path)})
    candidates = candidates_of(again, tiny_dataset)
    tried = [propose(config=again, dataset=tiny_dataset, index=str(i)) for i in range(len(candidates))]
    proxies = [
        finished_run(tmp_path / f"n{i}", tiny_dataset.digest, each, losses(each.weights, changed="chart"))
        for i, each in enumerate(tried)
    ]
    mixture = ablate(config=again, dataset=tiny_dataset, candidates=tried, proxies=proxies)
    all_tried = [
        propose(config=config, dataset=tiny_dataset, index=str(i)) for i in range(num_candidates(config))
    ]
    all_proxies = [
        finished_run(tmp_path / f"w{i}", tiny_dataset.digest, each, losses(each.weights, changed="chart"))
        for i, each in enumerate(all_tried)
    ]
    whole = ablate(config=config, dataset=tiny_dataset, candidates=all_tried, proxies=all_proxies)

    def truth(weights: dict[str, float]) -> float:
        reference = losses(dict.fromkeys(SLOPES, 0.25), changed="chart")
        return sum(loss / reference[name] for name, loss in losses(weights, changed="chart").items()) / 4

    assert truth(mixture.weights) < truth(whole.weights) + 0.005
    assert truth(searched.weights) > truth(whole.weights) + 0.02  # the old recipe would mislead
    metrics = mixture.load_record().metrics
    assert metrics["search_flops"] <= whole.load_record().metrics["search_flops"] / 4
    assert metrics["runs_reused"] == 12


def test_transferred_keeps_the_repeated_runs_as_they_came_out(
    config: AblateConfig, tiny_dataset: Dataset, searched: Mixture
) -> None:
    recipe = read_recipe(config.model_copy(update={"recipe": str(searched.path / "mixture.toml")}))
    repeated = [
        ProxyRun(run.name, run.weights, losses(run.weights, changed="chart")) for run in recipe.runs[:4]
    ]
    moved = transferred(config, sorted(SLOPES), recipe, repeated, ["chart"])
    assert [run.name for run in moved] == [run.name for run in recipe.runs]
    assert moved[2].losses == repeated[2].losses
    unseen = recipe.runs[-1]
    true = losses(unseen.weights, changed="chart")["chart"]
    assert abs(moved[-1].losses["chart"] / true - 1) < abs(unseen.losses["chart"] / true - 1) / 2
    assert moved[-1].losses["vqa"] == pytest.approx(unseen.losses["vqa"])  # what did not change stays


def test_reuse_with_other_proxies_is_refused(
    tmp_path: Path, config: AblateConfig, tiny_dataset: Dataset, searched: Mixture
) -> None:
    path = recipe_with(searched, tmp_path, chart="0" * 64)
    path.write_text(path.read_text().replace("proxy_tokens = 1000", "proxy_tokens = 9000"))
    again = config.model_copy(update={"recipe": str(path)})
    tried = [propose(config=again, dataset=tiny_dataset, index=str(i)) for i in range(4)]
    proxies = [
        finished_run(tmp_path / f"n{i}", tiny_dataset.digest, each, losses(each.weights))
        for i, each in enumerate(tried)
    ]
    with pytest.raises(OpsinError, match="9,000 tokens, this one has 1,000"):
        ablate(config=again, dataset=tiny_dataset, candidates=tried, proxies=proxies)


def test_changes_since_names_each_kind(
    tmp_path: Path, config: AblateConfig, tiny_dataset: Dataset, searched: Mixture
) -> None:
    again = config.model_copy(update={"recipe": str(recipe_with(searched, tmp_path, vqa="1" * 64))})
    changes = changes_since(read_recipe(again), tiny_dataset)
    assert (changes.other, changes.gone, changes.new) == (("vqa",), (), ())
