"""Evaluation sets as files, so that one can be added and training data be held against it at once.

    opsin data evaluation-set docvqa.toml docvqa.parquet

The file holds keys, digests, texts and thumbnails, never pictures; hashes are made from the thumbnails when
it is read, so that it outlives the hash.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.curate.duplicates.signatures import SCHEMA, SPLITS, Signatures
from components.errors import ConfigError

NAME = b"opsin.evaluation_set"
"""Metadata key of the name."""


@dataclass(frozen=True)
class EvaluationSet:
    """What training must not have seen."""

    name: str
    signatures: Signatures
    """All in split `test`, whatever they were called in their dataset."""


def write_evaluation_set(path: Path, name: str, table: pa.Table) -> None:
    """
    Args:
        path: The parquet file.
        name: Stands in the reasons of what is removed for it.
        table: Columns of `SCHEMA`; all rows are taken.
    """
    table = table.select(SCHEMA.names).cast(SCHEMA)
    held_out = pa.array(["test"] * len(table), pa.string())
    table = table.set_column(SCHEMA.get_field_index("split"), "split", held_out)
    pq.write_table(table.replace_schema_metadata({NAME: name.encode()}), path, compression="zstd")


def read_evaluation_set(path: Path, *, same_text_only: Sequence[str] = ()) -> EvaluationSet:
    """
    Raises:
        ConfigError: there is no such file, or it is no evaluation set.
    """
    if not path.is_file():
        raise ConfigError(
            "the evaluation set does not exist",
            where=f"curate.duplicates.evaluation_sets, {path}",
            fix="write it: opsin data evaluation-set CONFIG FILE",
        )
    try:
        table = pq.read_table(path)
        name = (table.schema.metadata or {})[NAME].decode()
        signatures = Signatures.of(table, same_text_only=same_text_only)
    except (pa.ArrowInvalid, KeyError, ConfigError) as error:
        raise ConfigError(
            f"not an evaluation set: {error}",
            where=f"curate.duplicates.evaluation_sets, {path}",
            fix="write it: opsin data evaluation-set CONFIG FILE",
        ) from error
    assert (signatures.split == np.int8(SPLITS.index("test"))).all(), "written so"
    return EvaluationSet(name, signatures)


def read_evaluation_sets(
    paths: Sequence[str], *, same_text_only: Sequence[str] = ()
) -> tuple[EvaluationSet, ...]:
    """All that the config names."""
    return tuple(read_evaluation_set(Path(each), same_text_only=same_text_only) for each in paths)
