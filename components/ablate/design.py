"""Which mixtures the proxy runs try: pure functions of the config and the dataset's manifest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from components.ablate.simplex import Bounds, bounds_of, farthest, rounded, spread_out
from components.ablate.types import Candidate, Vector
from components.artifacts import Dataset
from components.config import AblateConfig, DistillWeights, Phase, PretrainConfig
from components.errors import ConfigError, OpsinError
from components.loader import read_manifest

POOL_LOG2: Final = 9
"""2^9 quasi-random mixtures, from which the spread-out ones are picked."""
DISTINCT: Final = 0.02
"""Mixtures that differ less than this in every weight would be the same run twice."""
LONGER: Final = 3
"""Times a proxy's steps, of a run of the shortlist."""
STRATIFIED, PROPORTIONAL, PRIOR = "stratified", "proportional", "prior"


def num_candidates(config: AblateConfig) -> int:
    """Mixtures that are run: the stratified one and `proxies` others, or the given ones."""
    return config.proxies + 1


def design(config: AblateConfig, dataset: Dataset) -> list[Candidate]:
    """Mixtures for the first proxy runs: the baselines, then those given or variations, then spread-out ones.

    Baselines are the stratified mixture, the one proportional to size and the prior. Spread-out ones come
    from a Dirichlet distribution around the prior, within floors and ceilings; of a pool of 512 each next
    one is the farthest from all before it (maximin), so few runs span the simplex. The last
    `config.acquired` of `num_candidates` are left to the acquisition.

    Raises:
        OpsinError: the dataset has fewer than two categories with training samples.
        ConfigError: no mixture keeps floors and ceilings, a category is unknown, or given mixtures are more
            than there are proxy runs.
    """
    sizes = category_sizes(dataset)
    if len(sizes) < 2:
        raise OpsinError(
            f"a mixture needs at least two categories, the dataset has {sorted(sizes)}",
            where=dataset.uri,
            fix="add sources of another category to curate.sources",
        )
    names = sorted(sizes)
    bounds = bounds_of(config, names)
    prior = bounds.keep(prior_of(config, names))
    chosen = list(_baselines(config, bounds, sizes, prior))
    chosen += _given(config, names) + _variations(config, names, bounds, prior)
    first = num_candidates(config) - config.acquired
    if len(chosen) > first:
        raise ConfigError(
            f"{len(chosen)} mixtures are to be tried, and there are {first} runs for them: "
            f"{', '.join(name for name, _ in chosen)}",
            where="ablate.proxies",
            fix=f"set it to {len(chosen) - 1 + config.acquired}, or name fewer candidates",
        )
    if len(chosen) < first:
        pool = spread_out(prior, bounds, config.concentration, POOL_LOG2, config.seed)
        while len(chosen) < first:
            tried = np.stack([weights for _, weights in chosen])
            chosen.append((f"dirichlet-{len(chosen)}", farthest(pool, tried)))
    return [Candidate(name, dict(zip(names, rounded(weights), strict=True))) for name, weights in chosen]


def category_sizes(dataset: Dataset) -> dict[str, int]:
    """Training samples per category, from the manifest."""
    manifest = read_manifest(dataset, ["split", "category"])
    counts = manifest.loc[manifest["split"] == "train", "category"].value_counts()
    return {str(name): int(count) for name, count in sorted(counts.items())}


def prior_of(config: AblateConfig, names: list[str]) -> Vector:
    """The prior's weights; the stratified mixture where none is given."""
    weights = np.array([config.prior.get(name, 0.0 if config.prior else 1.0) for name in names])
    prior: Vector = weights / weights.sum()
    return prior


def _baselines(
    config: AblateConfig, bounds: Bounds, sizes: dict[str, int], prior: Vector
) -> Iterator[tuple[str, Vector]]:
    stratified = np.full(len(sizes), 1 / len(sizes))
    counts = np.array([sizes[name] for name in sorted(sizes)], dtype=np.float64)
    yielded = list[Vector]()
    for name, weights in (
        (STRATIFIED, stratified),  # the reference, whatever the bounds say
        (PROPORTIONAL, bounds.keep(counts / counts.sum())),
        (PRIOR, prior),
    ):
        if all(np.abs(weights - other).max() > DISTINCT for other in yielded):
            yielded.append(weights)
            yield name, weights


def _given(config: AblateConfig, names: list[str]) -> list[tuple[str, Vector]]:
    """The config's named mixtures, as they are: whoever names one wants that one."""
    given = []
    for name, wanted in config.candidates.items():
        unknown = sorted(set(wanted) - set(names))
        if unknown or name in (STRATIFIED, PROPORTIONAL, PRIOR):
            raise ConfigError(
                f"candidate '{name}' weights {', '.join(unknown)}, which the dataset does not have"
                if unknown
                else f"'{name}' is always run, and no name for a candidate",
                where=f"ablate.candidates.{name}",
                fix=f"categories here: {', '.join(names)}" if unknown else "name it otherwise",
            )
        weights = np.array([wanted.get(category, 0.0) for category in names])
        given.append((name, weights / weights.sum()))
    return given


def _variations(
    config: AblateConfig, names: list[str], bounds: Bounds, prior: Vector
) -> list[tuple[str, Vector]]:
    """The prior with one weight raised or lowered, the others giving way in proportion."""
    varied = []
    for index, name in enumerate(names if config.variation else ()):
        for sign, word in ((1, "more"), (-1, "less")):
            weight = min(prior[index] * (1 + sign * config.variation), 1.0)
            others = prior * (1 - weight) / max(1 - prior[index], 1e-12)
            others[index] = weight
            varied.append((f"{word}-{name}", bounds.keep(others)))
    return varied


def confirm_config(config: AblateConfig, pretrain: PretrainConfig, pair: int) -> PretrainConfig:
    """A proxy's pretraining, with the model, the steps and the seed of a pair that confirms."""
    changes: dict[str, Any] = {"steps": config.confirm_steps or config.steps}
    if config.confirm_model == "full":
        changes["model"] = {}
    longer = config.model_copy(update=changes)
    return proxy_config(longer, pretrain).model_copy(update={"seed": pretrain.seed + 1 + pair})


def shortlist_config(config: AblateConfig, pretrain: PretrainConfig) -> PretrainConfig:
    """A proxy's pretraining, with the steps of the shortlist."""
    steps = config.shortlist_steps or LONGER * config.steps
    return proxy_config(config.model_copy(update={"steps": steps}), pretrain)


def proxy_config(config: AblateConfig, pretrain: PretrainConfig) -> PretrainConfig:
    """Pretraining made short, and as small as `config.model` says: same data, `config.steps` steps.

    Phases keep their shares of the steps.
    A step is smaller too (`packs_per_step`), so that a proxy sees many steps for its tokens.
    """
    per_step = pretrain.packs_per_step * pretrain.pack_tokens
    lengths = [phase.steps or phase.tokens / per_step for phase in pretrain.phases]
    shares = [max(1, round(config.steps * length / sum(lengths))) for length in lengths]
    shares[-1] = max(1, config.steps - sum(shares[:-1]))
    phases: list[Phase] = [
        # Every proxy is trained on its own mixture from beginning to end: that is what is compared.
        # A teacher would make each several times as dear, and says nothing about mixtures.
        phase.model_copy(update={"steps": steps, "tokens": 0, "mixture": {}, "distill": DistillWeights()})
        for phase, steps in zip(pretrain.phases, shares, strict=True)
    ]
    changes = {
        "model": config.proxy_model(pretrain.model),
        "phases": tuple(phases),
        "packs_per_step": config.packs_per_step,
        "validation_samples": config.validation_samples,
        "processes": 1,
        "validate_every": 0,
        "select": "last",
        "distill": None,
        "watch": pretrain.watch.model_copy(update={"every": 0}),
        # A proxy is compared, not released: after so few steps it need not stop yet.
        "min_end_token_rate": 0.0,
    }
    return PretrainConfig.model_validate(pretrain.model_copy(update=changes).model_dump())
