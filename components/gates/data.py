"""The data gates: Great Expectations suites, as code, over the manifest and what lies in the shards.

Each gate is one group of expectations; its evidence counts the unexpected rows per expectation and
names a few of them. The gates recompute what the curation funnel promised: they do not trust it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from components.gates.drift import measure_drift
from components.gates.expectations import Suite, expectations, judge
from components.gates.manifest import COLUMNS, NULLABLE, SPLITS, Stored
from components.gates.result import GateResult

MAX_REASONS = 3
LEFT_OUT = frozenset({"label_cap"})
"""Reasons that say nothing against a sample: there were enough like it."""


@dataclass(frozen=True)
class Requirements:
    """What a dataset must satisfy before anything trains on it."""

    categories: tuple[str, ...]
    phash_distance: int
    min_samples_per_category: int
    max_rejected_share: float
    image_size: int = 0
    """Side in pixels that pictures were brought to; 0: they are as the source has them."""
    square: bool = True
    """Whether both sides were brought to `image_size`, or only the longer one."""
    allowed_licences: tuple[str, ...] = ()
    """Empty: every declared licence."""
    max_category_share: float = 1.0
    """Of the training samples."""
    max_drift: float = 1.0
    """Largest distance of any property from the version before; 1: drift is reported and never blocks."""


def check_dataset(
    manifest: pd.DataFrame,
    *,
    stored: Mapping[str, Stored],
    rejected: Mapping[str, int],
    requirements: Requirements,
    leaked: Collection[str] = (),
    previous: pd.DataFrame | None = None,
    docs: Path | None = None,
) -> list[GateResult]:
    """All data gates, in the order a person would ask; none raises.

    Args:
        manifest: One row per sample, the columns of `COLUMNS`.
        stored: Key → what was read back from the shards.
        rejected: Reason code → samples in quarantine.
        requirements: Limits from the config.
        leaked: Keys that a search with the pictures at hand found in test, or in an evaluation set; the
            manifest alone tells equal pictures, and near ones with the same text.
        previous: Manifest of the version before this one, where there is one.
        docs: Directory for Great Expectations' Data Docs.

    Returns:
        One result per gate. With columns missing, only the schema gate is judged: the others need them.
    """
    schema = _schema(manifest)
    if set(manifest.columns) != set(COLUMNS):
        return judge([schema], docs)
    suites = [
        schema,
        _complete(manifest),
        _licences(manifest, requirements.allowed_licences),
        _unique(manifest),
        _integrity(manifest, stored),
        _nothing_else(manifest, stored),
        _pictures(manifest, requirements),
        _splits(manifest),
        _decontaminated(manifest, requirements.phash_distance, leaked),
    ]
    counts = (
        _categories(manifest, requirements),
        _balance(manifest, requirements.max_category_share),
        _rejected(len(manifest), rejected, requirements.max_rejected_share),
    )
    hint = say_rejected(rejected)
    suites += [replace(each, hint=hint, fix=f"{each.fix}; see: opsin data show") for each in counts]
    if previous is not None:
        suites.append(_drift(manifest, previous, requirements.max_drift))
    return judge(suites, docs)


def check_drift(manifest: pd.DataFrame, previous: pd.DataFrame, most: float) -> GateResult:
    """The gate on drift alone, for a dataset that was made before the version it is now compared with."""
    (result,) = judge([_drift(manifest, previous, most)])
    return result


def say_rejected(rejected: Mapping[str, int]) -> str:
    """The most frequent reasons, with their counts: why there may be too few samples."""
    common = sorted(rejected.items(), key=lambda each: (-each[1], each[0]))
    shown = [f"{code} {count:,}" for code, count in common[:MAX_REASONS]]
    rest = sum(count for _, count in common[MAX_REASONS:])
    return f"rejected: {', '.join([*shown, *([f'others {rest:,}'] if rest else [])]) or 'none'}"


def _schema(manifest: pd.DataFrame) -> Suite:
    gxe = expectations()
    return Suite(
        "data/schema",
        manifest,
        (gxe.ExpectTableColumnsToMatchSet(column_set=list(COLUMNS), exact_match=True),),
        required=f"{len(COLUMNS)} named columns",
        fix="the manifest was not written by this version: curate again",
    )


def _complete(manifest: pd.DataFrame) -> Suite:
    gxe = expectations()
    named = ("key", "source", "source_version", "licence", "original_id", "category", "kind")
    return Suite(
        "data/complete",
        manifest,
        (
            *(gxe.ExpectColumnValuesToNotBeNull(column=name) for name in COLUMNS if name not in NULLABLE),
            *(gxe.ExpectColumnValueLengthsToBeBetween(column=name, min_value=1) for name in named),
        ),
        required="no missing value; every sample has a source, a version and a licence",
        fix="a source without a declared licence cannot be used: take it out of curate.sources",
    )


def _licences(manifest: pd.DataFrame, allowed: tuple[str, ...]) -> Suite:
    """A source's licences one by one: packages declare several, joined by `; `."""
    gxe = expectations()
    table = manifest[["source", "licence"]].drop_duplicates()
    table = table.assign(licence=table["licence"].str.split("; ")).explode("licence", ignore_index=True)
    rule = (
        gxe.ExpectColumnValuesToBeInSet(column="licence", value_set=list(allowed))
        if allowed
        else gxe.ExpectColumnValuesToNotBeInSet(column="licence", value_set=["", "unknown"])
    )
    return Suite(
        "data/licences",
        table,
        (rule,),
        required=f"one of {', '.join(allowed)}" if allowed else "a declared licence for every source",
        fix="take the source out, say its licence in curate.sources, or extend curate.allowed_licences",
    )


def _unique(manifest: pd.DataFrame) -> Suite:
    gxe = expectations()
    same = ["split", "image_sha256", "text_sha256"]
    return Suite(
        "data/unique",
        manifest,
        (
            gxe.ExpectColumnValuesToBeUnique(column="key"),
            gxe.ExpectCompoundColumnsToBeUnique(column_list=same),
            gxe.ExpectCompoundColumnsToBeUnique(column_list=["shard", "index"]),
            gxe.ExpectCompoundColumnsToBeUnique(column_list=["source", "original_id", "category"]),
        ),
        required="no key, place, original or (image, text) twice in a split",
        fix="a source repeats itself past the duplicate filters: see the keys in the evidence",
    )


def _integrity(manifest: pd.DataFrame, stored: Mapping[str, Stored]) -> Suite:
    """That the bytes and the text in the shards are those that were kept."""
    gxe = expectations()
    found = [stored.get(key, Stored("missing", "missing")) for key in manifest["key"]]
    table = manifest.assign(
        stored=[each.sha256 for each in found], stored_text=[each.text_sha256 for each in found]
    )
    return Suite(
        "data/integrity",
        table,
        (
            gxe.ExpectColumnPairValuesToBeEqual(column_A="stored", column_B="sha256"),
            gxe.ExpectColumnPairValuesToBeEqual(column_A="stored_text", column_B="text_sha256"),
            gxe.ExpectColumnValuesToBeBetween(column="num_turns", min_value=1),
            gxe.ExpectColumnValuesToBeBetween(column="num_chars", min_value=2),
            gxe.ExpectColumnValuesToBeBetween(column="bytes", min_value=1),
            gxe.ExpectColumnValuesToMatchRegex(column="text_sha256", regex="^[0-9a-f]{64}$"),
        ),
        required="every sample with text, stored as it was kept",
        fix="a shard is corrupt or incomplete: remove the stage's directory and curate again",
    )


def _nothing_else(manifest: pd.DataFrame, stored: Mapping[str, Stored]) -> Suite:
    """That the shards hold no sample that the manifest does not have: training reads shards."""
    gxe = expectations()
    table = pd.DataFrame({"key": sorted(stored), "in_manifest": False})
    table["in_manifest"] = table["key"].isin(manifest["key"])
    return Suite(
        "data/nothing_else",
        table,
        (gxe.ExpectColumnValuesToBeInSet(column="in_manifest", value_set=[True]),),
        required="every sample in a shard is one that was kept",
        fix="a shard is left from another run: remove the stage's directory and curate again",
    )


def _pictures(manifest: pd.DataFrame, requirements: Requirements) -> Suite:
    gxe = expectations()
    table = manifest[manifest["kind"] != "text"].reset_index(drop=True)
    size = requirements.image_size
    longer = table[["width", "height"]].max(axis="columns") if len(table) else pd.Series(dtype="int64")
    table = table.assign(longer=longer)
    sides = ("width", "height") if requirements.square else ("longer",)
    wanted = [
        gxe.ExpectColumnValuesToBeBetween(column=name, min_value=size, max_value=size) for name in sides
    ]
    least = [gxe.ExpectColumnValuesToBeBetween(column=name, min_value=1) for name in ("width", "height")]
    return Suite(
        "data/pictures",
        table,
        (
            *(wanted if size else least),
            gxe.ExpectColumnValuesToMatchRegex(column="phash", regex="^[0-9a-f]{16}$"),
            *(
                gxe.ExpectColumnValuesToMatchRegex(column=name, regex="^[0-9a-f]{64}$")
                for name in ("image_sha256", "sha256")
            ),
        ),
        required=_wanted_size(requirements),
        fix="a picture was not brought to curate.image_size: remove the stage's directory and curate again",
    )


def _wanted_size(requirements: Requirements) -> str:
    if not requirements.image_size:
        return "every picture with its size and hashes"
    sides = "wide and high" if requirements.square else "at its longer side"
    return f"every picture {requirements.image_size} pixels {sides}"


def _splits(manifest: pd.DataFrame) -> Suite:
    gxe = expectations()
    grouped = manifest["group"].fillna("").str.len() > 0
    table = manifest.assign(group_fits=grouped == (manifest["split"] == "test"))
    return Suite(
        "data/splits",
        table,
        (
            gxe.ExpectColumnValuesToBeInSet(column="split", value_set=list(SPLITS)),
            gxe.ExpectColumnValuesToBeInSet(column="group_fits", value_set=[True]),
        ),
        required="train, validation or test; a held-out group in test and only there",
        fix="a reader gave a split or group that does not exist",
    )


def _decontaminated(manifest: pd.DataFrame, distance: int, leaked: Collection[str]) -> Suite:
    gxe = expectations()
    leaks = find_leaked(manifest, distance) | manifest["key"].isin(list(leaked)).to_numpy()
    return Suite(
        "data/decontaminated",
        manifest.assign(leaks=leaks),
        (gxe.ExpectColumnValuesToBeInSet(column="leaks", value_set=[False]),),
        required="no training sample that test, validation or an evaluation set holds too",
        fix="remove the samples named in the evidence from training, or their twins from test",
    )


def find_leaked(manifest: pd.DataFrame, distance: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Per row: is it outside test, and is its image in test, or a near image with the same text?

    Args:
        manifest: One row per sample.
        distance: Bits of 64 up to which perceptual hashes count as near.
    """
    held_out = manifest["split"] == "test"
    has_image = manifest["phash"] != ""
    same_image = manifest["image_sha256"].isin(manifest.loc[held_out & has_image, "image_sha256"]) & has_image
    same_text = manifest["text_sha256"].isin(manifest.loc[held_out & ~has_image, "text_sha256"]) & ~has_image
    leaked = (same_image | same_text) & ~held_out
    texts = manifest.loc[held_out & has_image].groupby("text_sha256")["phash"].agg(list)
    flags = leaked.to_numpy(dtype=bool, copy=True)
    suspects = ~held_out & has_image & manifest["text_sha256"].isin(texts.index)
    for position in np.flatnonzero(suspects.to_numpy(dtype=bool)):
        row = manifest.iloc[position]
        near = (int(row["phash"], 16) ^ int(other, 16) for other in texts[row["text_sha256"]])
        flags[position] |= any(bits.bit_count() <= distance for bits in near)
    return flags


def _categories(manifest: pd.DataFrame, requirements: Requirements) -> Suite:
    """Counts what is left per category: sources skipped on this machine show here."""
    gxe = expectations()
    counts = manifest.groupby(["category", "split"]).size().unstack(fill_value=0)
    counts = counts.reindex(index=sorted(requirements.categories), columns=list(SPLITS), fill_value=0)
    limits = {"train": requirements.min_samples_per_category, "validation": 1, "test": 1}
    return Suite(
        "data/categories",
        counts.rename_axis(None, axis="columns").reset_index(),
        tuple(
            gxe.ExpectColumnValuesToBeBetween(column=split, min_value=least)
            for split, least in limits.items()
        ),
        required=f"at least {limits['train']} training samples, validation and test samples per category",
        fix="add sources, raise their limits, or lower curate.min_samples_per_category",
        show_table=True,
    )


def _balance(manifest: pd.DataFrame, most: float) -> Suite:
    gxe = expectations()
    shares = manifest.loc[manifest["split"] == "train", "category"].value_counts(normalize=True)
    table = shares.rename_axis("category").rename("train_share").reset_index()
    return Suite(
        "data/balance",
        table,
        (gxe.ExpectColumnValuesToBeBetween(column="train_share", min_value=0, max_value=most),),
        required=f"no category with more than {most:.0%} of the training samples",
        fix="limit the large source, add others, or raise curate.max_category_share",
        show_table=True,
    )


def _rejected(num_kept: int, rejected: Mapping[str, int], most: float) -> Suite:
    gxe = expectations()
    total = num_kept + sum(rejected.values())
    num_rejected = sum(number for code, number in rejected.items() if code not in LEFT_OUT)
    table = pd.DataFrame({"rejected_share": [num_rejected / total if total else 1.0]})
    return Suite(
        "data/rejected_share",
        table,
        (gxe.ExpectColumnValuesToBeBetween(column="rejected_share", min_value=0, max_value=most),),
        required=f"at most {most:.0%} of all samples rejected",
        fix="a filter or a source is not what it should be: look into logs/quarantine.parquet",
        show_table=True,
    )


def _drift(manifest: pd.DataFrame, previous: pd.DataFrame, most: float) -> Suite:
    gxe = expectations()
    return Suite(
        "data/drift",
        measure_drift(manifest, previous),
        (gxe.ExpectColumnValuesToBeBetween(column="drift", min_value=0, max_value=most),),
        required=f"every property within {most:g} of the version before",
        fix="look at what changed in the sources; if it is meant, raise curate.max_drift for this run",
        show_table=True,
    )
