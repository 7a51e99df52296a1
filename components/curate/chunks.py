"""Work in chunks that survive a crash: each finished chunk is a pair of files in the run's scratch directory.

    00007.blob       bytes that the rows point into (pictures), written first
    00007.parquet    one row per item, renamed into place last: present means finished

Started again, only missing chunks are worked on; the rows come back in the order of the items.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeAlias, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from components.curate.engines import Engine
from components.curate.samples import Place
from components.progress import Bar

T = TypeVar("T")
Row: TypeAlias = dict[str, Any]
Work: TypeAlias = Callable[[Sequence[T], "Blob"], list[Row]]
CHUNK = 250
"""Items worked on between two saves (about half a second of drawing)."""


class Blob:
    """Bytes appended to a chunk's own file."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self._file, self._end = path, file, 0

    def append(self, content: bytes) -> Place:
        place = Place(self.path, self._end, len(content))
        self._file.write(content)
        self._end += len(content)
        return place


@dataclass(frozen=True)
class Job(Generic[T]):
    items: Sequence[T]
    path: Path
    """Of the chunk's table."""


@dataclass(frozen=True)
class Rows:
    rows: list[Row]
    seconds: float
    """Time of the work, summed over processes."""


def run_in_chunks(
    engine: Engine, title: str, work: Work[T], items: Sequence[T], directory: Path, *, size: int = CHUNK
) -> Rows:
    """Rows of all items, in their order; chunks already in `directory` are read instead.

    Args:
        work: Gives one row (values that Arrow knows) per item; may append bytes to the chunk's blob.
        directory: Where finished chunks lie; belongs to this piece of work alone.
        size: Items in a chunk.
    """
    directory.mkdir(parents=True, exist_ok=True)
    jobs = [
        Job(items[start : start + size], directory / f"{start // size:05d}.parquet")
        for start in range(0, len(items), size)
    ]
    pending = [job for job in jobs if not job.path.exists()]
    with Bar(title, total=len(jobs), start=len(jobs) - len(pending), unit="samples") as bar:
        for count in engine.map(partial(run_chunk, work=work), pending):
            bar.advance(units=count)
    tables = [pq.read_table(job.path) for job in jobs]
    seconds = sum(float(table.schema.metadata[b"seconds"]) for table in tables)
    return Rows([row for table in tables for row in table.to_pylist()], round(seconds, 3))


def run_chunk(job: Job[T], *, work: Work[T]) -> int:
    """Work on one chunk and save it; returns its length."""
    begin = time.monotonic()
    final = job.path.with_suffix(".blob")
    temporary = job.path.with_suffix(f".{os.getpid()}.blob")
    with temporary.open("wb") as file:
        rows = work(job.items, Blob(final, file))
    assert len(rows) == len(job.items), "one row per item"
    os.replace(temporary, final)
    names = dict.fromkeys(name for row in rows for name in row)  # Arrow takes the first row's alone
    table = pa.table({name: [row.get(name) for row in rows] for name in names})
    table = table.replace_schema_metadata({"seconds": str(time.monotonic() - begin)})
    temporary = job.path.with_suffix(f".{os.getpid()}.parquet")
    pq.write_table(table, temporary)
    os.replace(temporary, job.path)
    return len(job.items)
