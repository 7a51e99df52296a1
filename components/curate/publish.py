"""A dataset as a directory in the hub's layout, with a card that says what is in it and what was left out.

opsin data publish cpu published/ --push my-org/my-dataset

README.md            the dataset card, with one config per kind of shard
shards/*.tar, *.idx  as they were curated (hard links)
manifest.parquet     one row per sample
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from components.artifacts import Dataset, Record, link_files, write_atomic
from components.errors import ConfigError
from components.gates.manifest import SPLITS

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
"""The hub's size categories, by their upper ends."""


@dataclass(frozen=True)
class Part:
    """A table row of the card."""

    name: str
    counts: dict[str, int]
    share: float
    """Of the training samples."""


def publish(
    dataset: Dataset, target: Path, *, limits: str = "", weights: dict[str, float] | None = None
) -> Path:
    """Write the dataset in hub layout into `target`, which must be empty or hold an earlier publication.

    Args:
        limits: Known limits in your own words, for the card.
        weights: Mixture weight per category, where training used one.

    Returns:
        Path of the card.

    Raises:
        ConfigError: `target` holds something else.
    """
    if target.is_dir() and any(target.iterdir()) and not (target / "manifest.parquet").is_file():
        raise ConfigError("the directory is not empty", where=str(target), fix="name a new one")
    link_files(dataset.path, target)
    manifest = pd.read_parquet(dataset.path / "manifest.parquet")
    record = dataset.load_record()
    card = target / "README.md"
    write_atomic(card, render_card(dataset, manifest, record, limits=limits, weights=weights or {}))
    return card


def render_card(
    dataset: Dataset, manifest: pd.DataFrame, record: Record, *, limits: str, weights: dict[str, float]
) -> str:
    """The dataset card: YAML for the hub's own tools, and the facts for people."""
    funnel = json.loads((Path(dataset.record).parent / "logs" / "funnel.json").read_text())
    environment = Environment(
        loader=PackageLoader("components.curate", "."), undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("card.md.j2").render(
        yaml=yaml.safe_dump(_metadata(dataset, manifest), sort_keys=False, allow_unicode=True),
        dataset=dataset,
        record=record,
        splits=SPLITS,
        categories=_parts(manifest, "category"),
        groups=sorted(Counter(manifest.loc[manifest["split"] == "test", "group"]).items()),
        licences=sorted(Counter(manifest["licence"]).items()),
        filters=funnel["filters"],
        reasons=funnel["reasons"],
        gates=record.gates,
        weights=weights,
        limits=limits,
        num_rejected=sum(funnel["reasons"].values()),
    )


def push(target: Path, repository: str) -> str:
    """Upload a published directory to the hub; gives its address.

    Raises:
        ConfigError: the hub refused, or is not reached; its own words are in the message.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi()
    try:
        api.create_repo(repository, repo_type="dataset", exist_ok=True, private=True)
        return str(api.upload_folder(repo_id=repository, repo_type="dataset", folder_path=str(target)))
    except (HfHubHTTPError, OSError) as error:
        raise ConfigError(
            f"the hub did not take the dataset: {error}",
            where=repository,
            fix="log in (`hf auth login`), check the name and the network; the directory is ready as it is",
        ) from error


def _metadata(dataset: Dataset, manifest: pd.DataFrame) -> dict[str, Any]:
    kinds = sorted(manifest["kind"].unique())
    licences = sorted(manifest["licence"].unique())
    size = next((name for end, name in SIZES if len(manifest) < end), "n>1M")
    return {
        "pretty_name": dataset.name,
        "license": "other" if len(licences) != 1 else licences[0].lower(),
        "license_name": "per-sample",
        "task_categories": ["image-text-to-text", "visual-question-answering"],
        "size_categories": [size],
        "tags": ["webdataset", "vision-language", "opsin"],
        "configs": [
            {
                "config_name": kind if len(kinds) > 1 else "default",
                "data_files": [
                    {"split": split, "path": f"shards/{split}-{kind}-*.tar"}
                    for split in SPLITS
                    if ((manifest["kind"] == kind) & (manifest["split"] == split)).any()
                ],
            }
            for kind in kinds
        ],
    }


def _parts(manifest: pd.DataFrame, column: str) -> list[Part]:
    train = manifest["split"] == "train"
    parts = []
    for name, rows in manifest.groupby(column):
        counts = {split: int((rows["split"] == split).sum()) for split in SPLITS}
        parts.append(Part(str(name), counts, counts["train"] / max(1, int(train.sum()))))
    return parts
