"""The recipe `mixture.toml`: the weights, and what they rest on.

name, weights          what training draws by
[constraints]          floors and ceilings that were kept
[provenance]           how it was chosen: predictor, verdict, gain, rank correlation, regret
[validity]             for what: data (version, digest, one digest a category), size of model, tokens
[[runs]]               every proxy run: weights and losses
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w

from components.ablate.simplex import floors_of
from components.ablate.study import Study
from components.artifacts import Checkpoint, Dataset
from components.config import AblateConfig
from components.loader import read_manifest

CONTENT = ["key", "image_sha256", "text_sha256"]
"""Columns of the manifest that tell a sample's content."""


def write_recipe(
    directory: Path, name: str, weights: Mapping[str, float], rest: Mapping[str, Any] | None = None
) -> None:
    """Write `mixture.toml`; name and weights are all that a candidate's holds."""
    text = tomli_w.dumps({"name": name, "weights": dict(weights), **(rest or {})})
    (directory / "mixture.toml").write_text(text)


def recipe_of(
    config: AblateConfig,
    dataset: Dataset,
    proxies: Sequence[Checkpoint],
    study: Study,
    report: Mapping[str, Any],
) -> dict[str, Any]:
    """What a recipe holds beside its weights."""
    metrics = proxies[0].load_record().metrics
    return {
        "constraints": {
            "floors": floors_of(config, study.categories),
            "ceilings": {name: config.ceilings.get(name, 1.0) for name in study.categories},
        },
        "provenance": {
            "verdict": report["verdict"],
            "predictor": report["predictor"],
            "objective": report["objective"],
            "objective_by": report["objective_by"],
            "gain": report["gain"],
            "rank_correlation": report["rank_correlation"],
            "regret": report["regret"],
        },
        "validity": {
            "dataset": dataset.name,
            "data_version": dataset.version,
            "data_digest": dataset.digest,
            "categories": category_digests(dataset),
            "proxy_parameters": int(metrics.get("parameters", 0)),
            "proxy_tokens": int(metrics.get("tokens", 0)),
        },
        "runs": [{"name": run.name, "weights": run.weights, "losses": run.losses} for run in study.runs],
    }


def category_digests(dataset: Dataset) -> dict[str, str]:
    """Category → SHA-256 over the samples that training draws from: equal where nothing of it changed."""
    manifest = read_manifest(dataset, ["split", "category", *CONTENT])
    manifest = manifest[manifest["split"] == "train"]
    digests = {}
    for name, rows in manifest.groupby("category", sort=True):
        lines = sorted(rows[CONTENT].astype(str).agg(" ".join, axis=1))
        digests[str(name)] = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return digests
