"""A dataset as a directory in the hub's layout, with a card that says what is in it and what was left out.

opsin data publish cpu published/ --push my-org/my-dataset

README.md            the dataset card, with one config per kind of shard
shards/*.tar, *.idx  as they were curated (hard links)
manifest.parquet     one row per sample
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from components.artifacts import Dataset, Record, link_files, write_atomic
from components.errors import ConfigError
from components.gates.manifest import SPLITS

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
"""The hub's size categories, by their upper ends."""
HUB_LICENCES = """
afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda
cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0
cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0
cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0 ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 gfdl
gpl gpl-2.0 gpl-3.0 isc lgpl lgpl-2.1 lgpl-3.0 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1
osl-3.0 pddl postgresql unlicense wtfpl zlib
"""
"""What a card's `license` may say, SPDX in lower case for the most part:
https://hf.co/docs/hub/repositories-licenses. Any other is `other` with a `license_name`."""
UNVERSIONED = ("odbl", "odc-by", "pddl")
"""Licences that SPDX names with a version and the hub without."""


@dataclass(frozen=True)
class FilterRow:
    """What a filter did, as the card tells it."""

    name: str
    num_in: int
    num_out: int
    reasons: dict[str, int]


@dataclass(frozen=True)
class Part:
    """A table row of the card."""

    name: str
    counts: dict[str, int]
    share: float
    """Of the training samples."""


def publish(
    dataset: Dataset, target: Path, *, limits: str = "", weights: Mapping[str, float] = MappingProxyType({})
) -> Path:
    """Write the dataset in hub layout into `target`, which must be empty or hold an earlier publication.

    Args:
        limits: Known limits in your own words, for the card.
        weights: Weight per category of the mixture that was found for it; empty: none was searched.

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
    write_atomic(card, render_card(dataset, manifest, record, limits=limits, weights=weights))
    return card


def render_card(
    dataset: Dataset, manifest: pd.DataFrame, record: Record, *, limits: str, weights: Mapping[str, float]
) -> str:
    """The dataset card: YAML for the hub's own tools, and the facts for people."""
    filters = _filters(dataset, record)
    labelled = bool(record.config.get("diversity"))
    environment = Environment(
        loader=PackageLoader("components.curate", "."), undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("card.md.j2").render(
        yaml=yaml.safe_dump(_metadata(dataset, manifest), sort_keys=False, allow_unicode=True),
        dataset=dataset,
        record=record,
        splits=SPLITS,
        kinds=sorted(manifest["kind"].unique()),
        labels=_parts(manifest[manifest["label"] != ""], "label") if labelled else [],
        categories=_parts(manifest, "category"),
        groups=sorted(Counter(manifest.loc[manifest["split"] == "test", "group"]).items()),
        licences=sorted(Counter(manifest["licence"]).items()),
        filters=filters,
        reasons_known=any(row.reasons for row in filters),
        gates=record.gates,
        weights=weights,
        limits=limits,
        num_rejected=int(record.metrics.get("rejected", sum(row.num_in - row.num_out for row in filters))),
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
    size = next((name for end, name in SIZES if len(manifest) < end), "n>1M")
    return {
        "pretty_name": dataset.name,
        **_licence(manifest["licence"].unique()),
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


def _licence(declared: Iterable[str]) -> dict[str, Any]:
    """`license` as the hub reads it: its identifiers, or `other` with a `license_name`, never both."""
    names = sorted({name for each in declared for name in each.split("; ")})
    known = [_hub_licence(name) for name in names]
    if all(known):
        found = sorted(set(known))
        return {"license": found[0] if len(found) == 1 else found}
    name = "per-sample" if len(names) > 1 else re.sub(r"[^a-z0-9.]+", "-", names[0].lower()).strip("-")
    return {"license": "other", "license_name": name}


def _hub_licence(name: str) -> str:
    """The hub's identifier of an SPDX one; empty where it has none."""
    lower = re.sub(r"-(only|or-later)$", "", name.strip().lower())
    family = re.sub(r"-[0-9.]+$", "", lower)
    return lower if lower in HUB_LICENCES.split() else family if family in UNVERSIONED else ""


def _filters(dataset: Dataset, record: Record) -> list[FilterRow]:
    """From the logs; a restored dataset has none, and its record knows the counts without the reasons."""
    logs = Path(dataset.record).parent / "logs" / "funnel.json"
    if logs.is_file():
        steps = json.loads(logs.read_text())["filters"]
        return [FilterRow(each["name"], each["num_in"], each["num_out"], each["reasons"]) for each in steps]
    counts = record.metrics
    names = [found[1] for key in counts if (found := re.fullmatch(r"funnel/(.+)/in", key))]
    return [
        FilterRow(name, int(counts[f"funnel/{name}/in"]), int(counts[f"funnel/{name}/out"]), {})
        for name in names
    ]


def _parts(manifest: pd.DataFrame, column: str) -> list[Part]:
    train = manifest["split"] == "train"
    parts = []
    for name, rows in manifest.groupby(column):
        counts = {split: int((rows["split"] == split).sum()) for split in SPLITS}
        parts.append(Part(str(name), counts, counts["train"] / max(1, int(train.sum()))))
    return parts
