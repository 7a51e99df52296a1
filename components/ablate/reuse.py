"""A recipe of an earlier search, used again: as it is, or after a few of its runs were repeated.

Data of a category changed: then every old run's losses are off by what the new data makes of it. That is a
smooth function of how much of the category a run saw, so a few repeated runs tell it (`transferred`), and the
old ones need not be made again. Nothing is known of a category that the old runs never saw.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from components.ablate.design import STRATIFIED, category_sizes
from components.ablate.objective import targets_of
from components.ablate.recipe import category_digests, write_recipe
from components.ablate.simplex import bounds_of, farthest, floors_of, rounded
from components.ablate.types import Candidate, ProxyRun
from components.artifacts import Checkpoint, Dataset, Mixture, digest_file
from components.config import AblateConfig
from components.errors import ConfigError, OpsinError
from components.gates.mixture import recipe_valid, valid_mixture
from components.stage import Fields, Run, stage

LEAST_RERUNS: Final = 2
ALIKE: Final = 0.1
"""Share that the tokens of repeated runs may differ by: packs are never quite full."""
SHARE: Final = 4
"""One run in so many is repeated."""


@dataclass(frozen=True)
class Recipe:
    """A `mixture.toml`, read."""

    path: Path
    name: str
    weights: dict[str, float]
    digests: dict[str, str]
    """Category → digest of the data it was found on; empty in a recipe that a person wrote."""
    parameters: int
    """Of a proxy's model; 0 where it is not told."""
    tokens: int
    """That a proxy was trained on; 0 where it is not told."""
    runs: list[ProxyRun]


@dataclass(frozen=True)
class Changes:
    """How data differ from those of a recipe."""

    other: tuple[str, ...]
    """Categories whose samples changed."""
    gone: tuple[str, ...]
    new: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.other or self.gone or self.new)


def pin_recipe(config: AblateConfig) -> AblateConfig:
    """With the recipe's digest.

    Raises:
        ConfigError: there is no such file, or it is another than the config asks for.
    """
    if not config.recipe:
        return config
    path = Path(config.recipe)
    if not path.is_file():
        raise ConfigError(
            f"there is no recipe {path}",
            where="ablate.recipe",
            fix="name a mixture.toml that a search left (output of its stage ablate or confirm)",
        )
    found = digest_file(path)
    if config.recipe_sha256 not in ("", found):
        raise ConfigError(
            f"the recipe has SHA-256 {found}, and the config asks for {config.recipe_sha256}",
            where="ablate.recipe_sha256",
            fix="take the recipe that was meant, or set the digest to what is found",
        )
    return config.model_copy(update={"recipe_sha256": found})


def read_recipe(config: AblateConfig) -> Recipe:
    """
    Raises:
        ConfigError: it is no recipe: not TOML, or without a name or positive weights.
    """
    path = Path(pin_recipe(config).recipe)
    try:
        told: dict[str, Any] = tomllib.loads(path.read_text())
        weights = {str(name): float(weight) for name, weight in told["weights"].items()}
        runs = [
            ProxyRun(str(each["name"]), dict(each["weights"]), dict(each["losses"]))
            for each in told.get("runs", [])
        ]
        if not sum(weights.values()) > 0 or min(weights.values()) < 0:
            raise ValueError("its weights are not positive")
        total = sum(weights.values())
        validity = told.get("validity", {})
        return Recipe(
            path,
            str(told["name"]),
            {name: weight / total for name, weight in weights.items()},
            dict(validity.get("categories", {})),
            int(validity.get("proxy_parameters", 0)),
            int(validity.get("proxy_tokens", 0)),
            runs,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise ConfigError(
            f"{path} is no recipe: {problem}",
            where="ablate.recipe",
            fix="write `name` and a table `[weights]` (category = share), or take one that a search left",
        ) from None


def changes_since(recipe: Recipe, dataset: Dataset) -> Changes:
    """What is other in `dataset` than in the data that the recipe was found on."""
    sizes = set(category_sizes(dataset))
    known = set(recipe.digests) or set(recipe.weights)
    digests = category_digests(dataset) if recipe.digests else {}
    other = [name for name in sorted(sizes & known) if digests.get(name) != recipe.digests.get(name)]
    return Changes(tuple(other), tuple(sorted(known - sizes)), tuple(sorted(sizes - known)))


def runs_again(config: AblateConfig, dataset: Dataset) -> list[Candidate]:
    """Which of a recipe's runs are repeated; empty where its mixture is taken (or refused) as it is.

    The stratified one, then those that differ most in how much of the changed categories they saw.
    """
    recipe = read_recipe(config)
    changes = changes_since(recipe, dataset)
    known = {run.name: run for run in recipe.runs}
    if not config.proxies or not changes.other or changes.gone or changes.new or STRATIFIED not in known:
        return []
    wanted = config.reruns + 1 if config.reruns else max(LEAST_RERUNS, len(known) // SHARE)
    seen = {run.name: np.array([run.weights[name] for name in changes.other]) for run in recipe.runs}
    chosen, left = [STRATIFIED], [name for name in known if name != STRATIFIED]
    while left and len(chosen) < wanted:
        pool = np.stack([seen[name] for name in left])
        found = farthest(pool, np.stack([seen[name] for name in chosen]))
        name = left[int(np.abs(pool - found).sum(axis=1).argmin())]
        left.remove(name)
        chosen.append(name)
    return [Candidate(name, known[name].weights) for name in chosen]


def transferred(
    config: AblateConfig,
    categories: Sequence[str],
    recipe: Recipe,
    repeated: Sequence[ProxyRun],
    changed: Sequence[str],
) -> list[ProxyRun]:
    """All runs of a recipe as they would come out on the new data: the repeated ones as they did.

    Per target, the logarithm of new over old is a constant and a slope in the changed categories' weights
    (relative to the stratified run's), by ridge regression over the repeated runs: the slope is drawn to zero
    as if one more run had shown no change of shape.

    Raises:
        ConfigError: the recipe's runs did not measure what the objective asks for.
    """
    targets = targets_of(config, categories)
    old = {run.name: run for run in recipe.runs}
    missing = sorted({name for run in recipe.runs for name in targets if name not in run.losses})
    if missing:
        raise ConfigError(
            f"the recipe's runs did not measure {', '.join(missing)}",
            where="ablate.recipe, ablate.objective",
            fix="ask for the objective that the recipe was found by, or leave the recipe out and search anew",
        )
    middle = old[STRATIFIED].weights

    def features(run: ProxyRun) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.array([run.weights[name] - middle[name] for name in changed])

    def logs(run: ProxyRun) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.log([run.losses[name] for name in targets])

    at_RF = np.stack([features(run) for run in repeated])
    shift_RK = np.stack([logs(run) - logs(old[run.name]) for run in repeated])
    centred_RF = at_RF - at_RF.mean(axis=0)
    penalty = np.eye(len(changed)) * max(float((centred_RF**2).mean()), 1e-12)
    slope_FK = np.linalg.solve(
        centred_RF.T @ centred_RF + penalty, centred_RF.T @ (shift_RK - shift_RK.mean(axis=0))
    )
    new = {run.name: run for run in repeated}
    moved = []
    for run in recipe.runs:
        shift_K = shift_RK.mean(axis=0) + (features(run) - at_RF.mean(axis=0)) @ slope_FK
        losses = dict(zip(targets, np.exp(logs(run) + shift_K).tolist(), strict=True))
        moved.append(new.get(run.name, ProxyRun(run.name, run.weights, losses)))
    return moved


def assert_like(recipe: Recipe, proxies: Sequence[Checkpoint]) -> None:
    """
    Raises:
        OpsinError: the repeated runs are no repetitions: another model, or other many tokens.
    """
    for proxy in proxies:
        metrics = proxy.load_record().metrics
        for what, then in (("parameters", recipe.parameters), ("tokens", recipe.tokens)):
            now = int(metrics.get(what, 0))
            if abs(now - then) > ALIKE * then:
                raise OpsinError(
                    f"the recipe's runs had {then:,} {what}, this one has {now:,}: no repetition of them",
                    where=proxy.record,
                    fix="set ablate.model, ablate.steps and pretrain as they were, or search anew",
                )


@stage("adopt", Mixture, pin=pin_recipe)
def adopt(run: Run, *, config: AblateConfig, dataset: Dataset) -> Fields:
    """Take a recipe's mixture as it is.

    Raises:
        ConfigError: there is no recipe, or it is none.
        GateFailed: its weights break a floor, or it was found on other data.
    """
    recipe = read_recipe(config)
    categories = sorted(category_sizes(dataset))
    changes = changes_since(recipe, dataset)
    run.gate(
        recipe_valid(changed=changes.other, gone=changes.gone, new=changes.new, known=bool(recipe.digests))
    )
    bounds_of(config, categories)
    run.gate(valid_mixture(recipe.weights, categories, floors_of(config, categories)))
    short = rounded(np.array([recipe.weights[name] for name in categories]))
    weights = dict(zip(categories, short, strict=True))
    told = tomllib.loads(recipe.path.read_text())
    rest = {key: value for key, value in told.items() if key not in ("name", "weights")}
    write_recipe(run.output, recipe.name, weights, rest | {"adopted": {"sha256": config.recipe_sha256}})
    return {"name": recipe.name, "weights": weights}
