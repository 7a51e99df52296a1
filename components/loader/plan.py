"""The pack plan: which turns of which samples stand in which pack, for a whole run, before it begins.

    packplan.parquet   one row an item: phase, pack, offset, sample, turns, tokens, images, labelled tokens

Training reads packs by number. So the place in the stream is one number: a resumed run, and one on another
number of processes, goes on at the exact next batch, whatever reads ahead.

Letters in array names: K items (rows), P packs.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

Longs = npt.NDArray[np.int64]
Rows: TypeAlias = dict[str, npt.NDArray[Any]]
COLUMNS = (
    "phase", "pack", "offset", "sample", "first_turn", "num_turns", "image", "tokens", "images", "labelled",
    "right", "down",
)  # fmt: skip


@dataclass(frozen=True)
class Item:
    """Turns of one sample that stand together behind their trunk."""

    sample: int
    first_turn: int
    """Index into all turns of the split."""
    num_turns: int
    image: bool
    """Shown with its pictures."""
    num_tokens: int
    shift: tuple[int, int] = (0, 0)
    """Pixels that the images are moved by, right and down (augmentation)."""


Pack: TypeAlias = tuple[Item, ...]


@dataclass(frozen=True)
class Plan:
    """A run's packs."""

    phase_P: Longs
    first_P: Longs
    """First row of each pack (one more entry than packs: the end)."""
    rows: Rows
    """Columns of the table."""
    packs_per_step: int

    @classmethod
    def of(cls, rows: Rows, packs_per_step: int) -> Plan:
        """A plan of rows sorted by pack (numbered from 0 without gaps)."""
        first = np.flatnonzero(np.diff(rows["pack"], prepend=-1))
        if "offset" not in rows:
            starts = np.cumsum(rows["tokens"], dtype=np.int64) - rows["tokens"]
            rows["offset"] = (starts - np.repeat(starts[first], np.diff([*first, len(starts)]))).astype(
                np.int32
            )
        phase_P = rows["phase"][first].astype(np.int64)
        return cls(phase_P, np.append(first, len(rows["pack"])), rows, packs_per_step)

    @property
    def num_packs(self) -> int:
        return len(self.phase_P)

    @property
    def num_steps(self) -> int:
        return self.num_packs // self.packs_per_step

    def steps_of(self, phase: int) -> int:
        """Optimizer steps of a phase."""
        return int((self.phase_P == phase).sum()) // self.packs_per_step

    def pack(self, number: int) -> Pack:
        """A pack by its number."""
        first, last = int(self.first_P[number]), int(self.first_P[number + 1])
        columns = ("sample", "first_turn", "num_turns", "image", "tokens", "right", "down")
        values = zip(*(self.rows[name][first:last].tolist() for name in columns), strict=True)
        return tuple(
            Item(sample, turn, turns, image, tokens, (right, down))
            for sample, turn, turns, image, tokens, right, down in values
        )

    def step(self, number: int, *, rank: int = 0, ranks: int = 1) -> list[Pack]:
        """This rank's packs of an optimizer step; all ranks together read the same whatever their number."""
        first = number * self.packs_per_step
        return [self.pack(each) for each in range(first + rank, first + self.packs_per_step, ranks)]

    def labelled(self, step: int) -> int:
        """Labelled tokens of a step over all ranks: what its loss is divided by."""
        first, last = self.first_P[step * self.packs_per_step], self.first_P[(step + 1) * self.packs_per_step]
        return int(self.rows["labelled"][int(first) : int(last)].sum())


def save_plan(plan: Plan, path: Path, keys: Sequence[str]) -> None:
    """Write `packplan.parquet`, whole or not at all.

    Args:
        keys: Of the split's samples: the table names them, for people and for joins with the manifest.
    """
    table = pa.table({name: plan.rows[name] for name in COLUMNS})
    named = pa.DictionaryArray.from_arrays(pa.array(plan.rows["sample"]), pa.array(list(keys)))
    table = table.append_column("key", named)
    table = table.replace_schema_metadata({"packs_per_step": str(plan.packs_per_step)})
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    pq.write_table(table, temporary, compression="zstd")
    os.replace(temporary, path)


def load_plan(path: Path) -> Plan:
    """Read what `save_plan` wrote."""
    table = pq.read_table(path, columns=list(COLUMNS))
    packs_per_step = int(table.schema.metadata[b"packs_per_step"])
    rows = {name: table.column(name).to_numpy() for name in COLUMNS}
    return Plan.of(rows, packs_per_step)
