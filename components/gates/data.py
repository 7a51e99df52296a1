"""The data gates: a Great Expectations suite, as code, over the manifest and what lies in the shards.

Each gate is one group of expectations; its evidence counts the unexpected rows per expectation and
names a few of them. The gates recompute what the curation funnel promised: they do not trust it.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from components.gates.result import GateResult

COLUMNS = (
    "key", "shard", "index", "split", "group", "category", "source", "source_version", "licence",
    "original_id", "width", "height", "image_sha256", "phash", "text_sha256", "num_turns", "num_chars",
    "bytes",
)  # fmt: skip
"""Columns of manifest.parquet, in their order."""
SPLITS = ("train", "validation", "test")
MAX_CHARS = 20_000


@dataclass(frozen=True)
class Requirements:
    """What a dataset must satisfy before anything trains on it."""

    categories: tuple[str, ...]
    image_size: int
    phash_distance: int
    min_samples_per_category: int
    max_rejected_share: float


@dataclass(frozen=True)
class _Gate:
    """Expectations over one table, and what to do when they do not hold."""

    name: str
    table: pd.DataFrame
    expectations: tuple[Any, ...]
    required: str
    fix: str


def check_dataset(
    manifest: pd.DataFrame,
    *,
    stored_sha256: Mapping[str, str],
    expected_sha256: Mapping[str, str],
    num_rejected: int,
    requirements: Requirements,
) -> list[GateResult]:
    """All data gates, in the order a person would ask; none raises.

    Args:
        manifest: One row per sample, the columns of `COLUMNS`.
        stored_sha256: Key → SHA-256 of the image bytes read back from the shards.
        expected_sha256: Key → SHA-256 of the image bytes that curation kept.
        num_rejected: Samples in quarantine.
        requirements: Limits from the config.

    Returns:
        One result per gate. With columns missing, only the schema gate is judged: the others need them.
    """
    schema = _schema_gate(manifest)
    first = _judge([schema])
    if not first[0].passed:
        return first
    gates = [
        _complete_gate(manifest),
        _unique_gate(manifest),
        _integrity_gate(manifest, stored_sha256, expected_sha256, requirements.image_size),
        _split_gate(manifest),
        _leak_gate(manifest, requirements.phash_distance),
        _category_gate(manifest, requirements),
        _rejected_gate(len(manifest), num_rejected, requirements.max_rejected_share),
    ]
    return first + _judge(gates)


@cache
def _expectations() -> Any:
    """The library's expectations, imported only where gates are judged: it takes six seconds and warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its use of sre_constants
        import great_expectations.expectations

    return great_expectations.expectations


def _schema_gate(manifest: pd.DataFrame) -> _Gate:
    gxe = _expectations()
    return _Gate(
        "data/schema",
        manifest,
        (gxe.ExpectTableColumnsToMatchSet(column_set=list(COLUMNS), exact_match=True),),
        required=f"{len(COLUMNS)} named columns",
        fix="the manifest was not written by this version: curate again",
    )


def _complete_gate(manifest: pd.DataFrame) -> _Gate:
    gxe = _expectations()
    named = ("key", "source", "source_version", "licence", "original_id", "category")
    return _Gate(
        "data/complete",
        manifest,
        (
            *(gxe.ExpectColumnValuesToNotBeNull(column=name) for name in COLUMNS),
            *(gxe.ExpectColumnValueLengthsToBeBetween(column=name, min_value=1) for name in named),
        ),
        required="no missing value; every sample has a source, a version and a licence",
        fix="a source without a declared licence cannot be used: take it out of curate.sources",
    )


def _unique_gate(manifest: pd.DataFrame) -> _Gate:
    gxe = _expectations()
    same = ["split", "image_sha256", "text_sha256"]
    return _Gate(
        "data/unique",
        manifest,
        (
            gxe.ExpectColumnValuesToBeUnique(column="key"),
            gxe.ExpectCompoundColumnsToBeUnique(column_list=same),
            gxe.ExpectCompoundColumnsToBeUnique(column_list=["shard", "index"]),
        ),
        required="no key, place or (image, text) twice in a split",
        fix="a source repeats itself past the duplicate filters: see the keys in the evidence",
    )


def _integrity_gate(
    manifest: pd.DataFrame, stored: Mapping[str, str], expected: Mapping[str, str], size: int
) -> _Gate:
    """Shapes and hashes, and that the bytes in the shards are the bytes that were kept."""
    gxe = _expectations()
    table = manifest.assign(
        stored=manifest["key"].map(lambda key: stored.get(key, "missing")),
        expected=manifest["key"].map(lambda key: expected.get(key, "unknown")),
    )
    return _Gate(
        "data/integrity",
        table,
        (
            gxe.ExpectColumnPairValuesToBeEqual(column_A="stored", column_B="expected"),
            *(
                gxe.ExpectColumnValuesToBeBetween(column=name, min_value=size, max_value=size)
                for name in ("width", "height")
            ),
            gxe.ExpectColumnValuesToBeBetween(column="num_turns", min_value=1),
            gxe.ExpectColumnValuesToBeBetween(column="num_chars", min_value=2, max_value=MAX_CHARS),
            gxe.ExpectColumnValuesToBeBetween(column="bytes", min_value=1),
            gxe.ExpectColumnValuesToMatchRegex(column="phash", regex="^[0-9a-f]{16}$"),
            *(
                gxe.ExpectColumnValuesToMatchRegex(column=name, regex="^[0-9a-f]{64}$")
                for name in ("image_sha256", "text_sha256")
            ),
        ),
        required=f"every image {size}×{size}, with text, stored as it was kept",
        fix="a shard is corrupt or incomplete: remove the stage's directory and curate again",
    )


def _split_gate(manifest: pd.DataFrame) -> _Gate:
    gxe = _expectations()
    grouped = manifest["group"].fillna("").str.len() > 0
    table = manifest.assign(group_fits=grouped == (manifest["split"] == "test"))
    return _Gate(
        "data/splits",
        table,
        (
            gxe.ExpectColumnValuesToBeInSet(column="split", value_set=list(SPLITS)),
            gxe.ExpectColumnValuesToBeInSet(column="group_fits", value_set=[True]),
        ),
        required="train, validation or test; a held-out group in test and only there",
        fix="a reader gave a split or group that does not exist",
    )


def _leak_gate(manifest: pd.DataFrame, distance: int) -> _Gate:
    gxe = _expectations()
    return _Gate(
        "data/decontaminated",
        manifest.assign(leaks=find_leaked(manifest, distance)),
        (gxe.ExpectColumnValuesToBeInSet(column="leaks", value_set=[False]),),
        required="no training or validation sample that test holds too",
        fix="remove the samples named in the evidence from training, or their twins from test",
    )


def find_leaked(manifest: pd.DataFrame, distance: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Per row: is it outside test, and is its image in test, or a near image with the same text?

    Args:
        manifest: One row per sample.
        distance: Bits of 64 up to which perceptual hashes count as near.
    """
    held_out = manifest["split"] == "test"
    leaked = manifest["image_sha256"].isin(manifest.loc[held_out, "image_sha256"]) & ~held_out
    texts = manifest.loc[held_out].groupby("text_sha256")["phash"].agg(list)
    flags = leaked.to_numpy(dtype=bool, copy=True)
    suspects = np.flatnonzero((~held_out & manifest["text_sha256"].isin(texts.index)).to_numpy(dtype=bool))
    for position in suspects:
        row = manifest.iloc[position]
        near = (int(row["phash"], 16) ^ int(other, 16) for other in texts[row["text_sha256"]])
        flags[position] |= any(bits.bit_count() <= distance for bits in near)
    return flags


def _category_gate(manifest: pd.DataFrame, requirements: Requirements) -> _Gate:
    """Counts what is left per category: sources skipped on this machine show here."""
    gxe = _expectations()
    counts = manifest.groupby(["category", "split"]).size().unstack(fill_value=0)
    counts = counts.reindex(index=sorted(requirements.categories), columns=list(SPLITS), fill_value=0)
    limits = {"train": requirements.min_samples_per_category, "validation": 1, "test": 1}
    return _Gate(
        "data/categories",
        counts.rename_axis(None, axis="columns").reset_index(),
        tuple(
            gxe.ExpectColumnValuesToBeBetween(column=split, min_value=least)
            for split, least in limits.items()
        ),
        required=f"at least {limits['train']} training samples, validation and test samples per category",
        fix="add sources, raise their limits, or lower curate.min_samples_per_category",
    )


def _rejected_gate(num_kept: int, num_rejected: int, most: float) -> _Gate:
    gxe = _expectations()
    total = num_kept + num_rejected
    table = pd.DataFrame({"rejected_share": [num_rejected / total if total else 1.0]})
    return _Gate(
        "data/rejected_share",
        table,
        (gxe.ExpectColumnValuesToBeBetween(column="rejected_share", min_value=0, max_value=most),),
        required=f"at most {most:.0%} of all samples rejected",
        fix="see logs/quarantine.parquet: a filter or a source is not what it should be",
    )


def _judge(gates: Sequence[_Gate]) -> list[GateResult]:
    """Validate every gate in one silent, in-memory context."""
    _expectations()
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    source = context.data_sources.add_pandas("curated")
    results = []
    for gate in gates:
        asset = source.add_dataframe_asset(gate.name)
        batch = asset.add_batch_definition_whole_dataframe("whole").get_batch({"dataframe": gate.table})
        suite = gx.ExpectationSuite(name=gate.name, expectations=list(gate.expectations))
        results.append(_result(gate, batch.validate(suite)))
    return results


def _result(gate: _Gate, validation: Any) -> GateResult:
    evidence: dict[str, str | int | float | bool | None] = {"rows": len(gate.table)}
    for each in validation.results:
        if each.success:
            continue
        arguments = each.expectation_config.kwargs
        columns = arguments.get("column") or "+".join(arguments.get("column_list") or ()) or "table"
        name = f"{each.expectation_config.type.removeprefix('expect_')}({columns})"
        evidence[name] = each.result.get("unexpected_count", str(each.result.get("details", "not judged")))
        rows = list(each.result.get("partial_unexpected_index_list") or ())[:5]
        if rows:
            label = "key" if "key" in gate.table else gate.table.columns[0]
            evidence[f"{name}: first"] = ", ".join(str(gate.table[label].iloc[row]) for row in rows)
    failed = sum(not each.success for each in validation.results)
    if gate.name in ("data/categories", "data/rejected_share"):
        evidence |= _cells(gate.table)
    total = len(validation.results)
    observed = f"{total - failed} of {total} expectations hold over {len(gate.table)} rows"
    if failed:
        observed += "; " + "; ".join(f"{key}: {value}" for key, value in evidence.items() if key != "rows")
    return GateResult(
        name=gate.name,
        passed=bool(validation.success),
        observed=observed,
        required=gate.required,
        fix=gate.fix,
        evidence=evidence,
    )


def _cells(table: pd.DataFrame) -> dict[str, str | int | float | bool | None]:
    """A small table as evidence: `train/vqa: 3800`."""
    label = table.columns[0] if "category" in table else None
    cells: dict[str, str | int | float | bool | None] = {}
    for _, row in table.iterrows():
        for column in table.columns:
            if column != label:
                value = row[column].item() if hasattr(row[column], "item") else row[column]
                cells[f"{column}/{row[label]}" if label else str(column)] = value
    return cells
