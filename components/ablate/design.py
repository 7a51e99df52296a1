"""Which mixtures the proxy runs try: pure functions of the config and the dataset's manifest."""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy import stats

from components.ablate.types import Candidate, Matrix, Vector
from components.artifacts import Dataset
from components.config import AblateConfig, DistillWeights, Phase, PretrainConfig
from components.errors import ConfigError, OpsinError
from components.loader import read_manifest

POOL_LOG2: Final = 9
"""2^9 quasi-random mixtures, from which the spread-out ones are picked."""
DECIMALS: Final = 4
"""Of a weight, as written."""


def num_candidates(config: AblateConfig) -> int:
    """Mixtures that `design` gives: the stratified one and `proxies` others."""
    return config.proxies + 1


def design(config: AblateConfig, dataset: Dataset) -> list[Candidate]:
    """Mixtures for the proxy runs: stratified, size-proportional, then spread over the simplex.

    The others come from a Dirichlet distribution around the stratified mixture (a scrambled Sobol
    sequence through the inverse gamma distribution function), lifted onto the floors; of a pool of 512
    each next one is the farthest from all before it (maximin), so few runs span the simplex.

    Raises:
        OpsinError: the dataset has fewer than two categories with training samples.
        ConfigError: the floors leave nothing to distribute.
    """
    sizes = category_sizes(dataset)
    if len(sizes) < 2:
        raise OpsinError(
            f"a mixture needs at least two categories, the dataset has {sorted(sizes)}",
            where=dataset.uri,
            fix="add sources of another category to curate.sources",
        )
    if config.min_share * len(sizes) >= 1:
        raise ConfigError(
            f"ablate.min_share {config.min_share} of {len(sizes)} categories leaves nothing to distribute",
            where="ablate.min_share",
            fix=f"set it below {1 / len(sizes):.3f}",
        )
    names = sorted(sizes)
    stratified = np.full(len(names), 1 / len(names))
    counts = np.array([sizes[name] for name in names], dtype=np.float64)
    proportional = _keep_floor(counts / counts.sum(), config.min_share)
    chosen = [("stratified", stratified)]
    if np.abs(proportional - stratified).max() > 0.02:  # else it would be the same run twice
        chosen.append(("proportional", proportional))
    pool = _pool(config, len(names))
    while len(chosen) < num_candidates(config):
        tried = np.stack([weights for _, weights in chosen])
        distance = np.abs(pool[:, None, :] - tried[None, :, :]).sum(axis=2).min(axis=1)
        chosen.append((f"dirichlet-{len(chosen)}", pool[int(distance.argmax())]))
    return [Candidate(name, _weights(names, weights)) for name, weights in chosen]


def category_sizes(dataset: Dataset) -> dict[str, int]:
    """Training samples per category, from the manifest."""
    manifest = read_manifest(dataset, ["split", "category"])
    counts = manifest.loc[manifest["split"] == "train", "category"].value_counts()
    return {str(name): int(count) for name, count in sorted(counts.items())}


def proxy_config(config: AblateConfig, pretrain: PretrainConfig) -> PretrainConfig:
    """Pretraining made short: same model and data, `config.steps` steps, split like the real phases.

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


def _pool(config: AblateConfig, num_categories: int) -> Matrix:
    """Dirichlet mixtures above the floors, shape (2^POOL_LOG2, categories)."""
    sobol = stats.qmc.Sobol(num_categories, scramble=True, rng=np.random.default_rng(config.seed))
    uniform = np.clip(sobol.random_base2(POOL_LOG2), 1e-9, 1 - 1e-9)
    gamma = stats.gamma.ppf(uniform, a=config.concentration)
    shares: Matrix = gamma / gamma.sum(axis=1, keepdims=True)
    return config.min_share + (1 - num_categories * config.min_share) * shares


def _keep_floor(shares: Vector, floor: float) -> Vector:
    """Lift shares below the floor onto it, and take what they need from the others' surplus."""
    surplus = np.maximum(shares - floor, 0)
    lifted: Vector = floor + surplus / surplus.sum() * (1 - floor * len(shares))
    return lifted


def _weights(names: list[str], weights: Vector) -> dict[str, float]:
    return dict(zip(names, rounded(weights), strict=True))


def rounded(weights: Vector) -> list[float]:
    """Weights with few decimals that still sum to one; the largest takes the rest."""
    short = np.round(weights, DECIMALS)
    short[int(short.argmax())] += 1 - short.sum()
    return [round(float(weight), DECIMALS) for weight in short]
