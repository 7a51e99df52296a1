"""Rows of a parquet file with pictures in it, as the Hugging Face libraries write them.

Planning reads the text columns and never the pictures' bytes; a picture is read when it is asked for,
through a cursor that stays where the last one was found, so that reading in order reads everything once.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from components.curate.samples import Reason
from components.curate.sources.files.pairs import Layout
from components.errors import ConfigError

Row: TypeAlias = dict[str, Any]
PLANNED_ROWS = 1024
"""Rows whose texts are in memory at a time while planning."""
LOADED_ROWS = 8
"""Rows whose pictures are in memory at a time while loading."""
ONLY = -1
BUFFER = 1 << 20
"""Bytes read at a time; without it a whole column chunk (gigabytes, in some datasets) is."""


@dataclass(frozen=True)
class Embedded:
    """A picture inside the table: where it is found again."""

    path: Path
    row_group: int
    row: int
    """In the row group."""
    column: str
    position: int
    """In the row's list of pictures; `ONLY` where nothing but the bytes says how many there are."""
    name: str = ""
    """Of the file that it was read from, where the table says one."""

    @property
    def payload(self) -> Row:
        return {
            "parquet": str(self.path),
            "row_group": self.row_group,
            "row": self.row,
            "column": self.column,
            "position": self.position,
        }


def read_parquet(path: Path, layout: Layout) -> Iterator[Row | Reason]:
    """Every row with the columns that the layout asks for; pictures with bytes become `Embedded`.

    A file that cannot be read any further gives the reason `corrupt_table`.

    Raises:
        ConfigError: an option names a column that is not there.
    """
    try:
        with pq.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False) as file:
            yield from _Table(path, file, layout).rows()
    except ConfigError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        yield Reason("corrupt_table", evidence=" ".join(str(error).split())[:200])


class _Table:
    """An open file, and which of its columns are read."""

    def __init__(self, path: Path, file: pq.ParquetFile, layout: Layout) -> None:
        self.path, self.file, self.schema = path, file, file.schema_arrow
        roles = layout.columns(self.schema.names, where=str(path))
        self.image = roles.get("image", "")
        field = self.schema.field(self.image) if self.image else None
        self.embedded = field is not None and _holds_bytes(field.type)
        self.paths = _path_column(file.schema, self.image) if self.embedded else ""
        texts = dict.fromkeys(name for name in roles.values() if name != self.image or not self.embedded)
        self.texts = list(texts)
        self.labels = _label_names(self.schema)

    def rows(self) -> Iterator[Row]:
        for group in range(self.file.metadata.num_row_groups):
            pictures = iter(self._pictures(group)) if self.embedded else None
            for row in self._text_rows(group):
                for name in self.labels.keys() & row.keys():
                    row[name] = _label(row[name], self.labels[name])
                if pictures is not None:
                    row[self.image] = next(pictures, None)
                yield row

    def _text_rows(self, group: int) -> Iterator[Row]:
        for batch in self.file.iter_batches(
            PLANNED_ROWS, row_groups=[group], columns=self.texts, use_threads=False
        ):
            yield from batch.to_pylist()

    def _pictures(self, group: int) -> Iterator[list[Any]]:
        """For every row what stands for its pictures, in order; None for one that is not there.

        The `path` beside the bytes says how many there are. Where there is none, one is taken for granted,
        and loading says if that is wrong: not even statistics are asked, as pyarrow 25 ends the process on
        those of a damaged file.
        """
        num_rows = self.file.metadata.row_group(group).num_rows
        if not self.paths:
            yield from ([self._place(group, row, ONLY)] for row in range(num_rows))
            return
        row = 0
        for batch in self.file.iter_batches(
            PLANNED_ROWS, row_groups=[group], columns=[self.paths], use_threads=False
        ):
            for value in batch.column(0).to_pylist():
                several = value if isinstance(value, list) else [value]
                yield [
                    each and self._place(group, row, place, each["path"] or "")
                    for place, each in enumerate(several)
                ]
                row += 1

    def _place(self, group: int, row: int, position: int, name: str = "") -> Embedded:
        return Embedded(self.path, group, row, self.image, position, name)


def _path_column(schema: pq.ParquetSchema, image: str) -> str:
    """The column of the paths beside pictures' bytes; empty where there is none."""
    paths = (schema.column(place).path for place in range(len(schema)))
    return next((path for path in paths if path.startswith(f"{image}.") and path.endswith(".path")), "")


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _holds_bytes(kind: pa.DataType) -> bool:
    """Whether a column holds encoded pictures: bytes, a struct with `bytes`, or lists of one of them."""
    if _is_list(kind):
        return _holds_bytes(kind.value_type)
    if pa.types.is_struct(kind):
        return any(kind.field(place).name == "bytes" for place in range(kind.num_fields))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _label_names(schema: pa.Schema) -> dict[str, Sequence[str]]:
    """Column → names of its classes, which `datasets` keeps in the schema's metadata."""
    found: Any = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    for name in ("info", "features"):
        found = found.get(name) if isinstance(found, Mapping) else None
    return {
        name: feature["names"]
        for name, feature in (found.items() if isinstance(found, Mapping) else ())
        if isinstance(feature, Mapping) and isinstance(feature.get("names"), list)
    }


def _label(value: Any, names: Sequence[str]) -> Any:
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else value


class Cursor:
    """A place in one column of one row group that moves forward."""

    def __init__(self, path: str, row_group: int, column: str) -> None:
        self.key = (path, row_group, column)
        self._file = pq.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False)
        self._batches = self._file.iter_batches(
            LOADED_ROWS, row_groups=[row_group], columns=[column], use_threads=False
        )
        self._first, self._rows = 0, pa.array([], pa.null())

    def value(self, row: int) -> Any:
        while row >= self._first + len(self._rows):
            self._first += len(self._rows)
            batch = next(self._batches, None)
            if batch is None:
                raise ValueError(f"the table has no row {row} any more")
            self._rows = batch.column(0)
        return self._rows[row - self._first].as_py()

    def passed(self, row: int) -> bool:
        return row < self._first

    def close(self) -> None:
        self._file.close()


_open = threading.local()


def load_embedded(payload: Mapping[str, Any]) -> bytes:
    """The encoded picture that `Embedded.payload` names.

    Raises:
        ValueError: the file is damaged, or no longer what was planned from.
    """
    key = (payload["parquet"], payload["row_group"], payload["column"])
    cursor: Cursor | None = getattr(_open, "cursor", None)
    try:
        if cursor is None or cursor.key != key or cursor.passed(payload["row"]):
            if cursor is not None:
                cursor.close()
            cursor = _open.cursor = Cursor(*key)
        value = cursor.value(payload["row"])
    except (pa.ArrowException, OSError, ValueError) as error:
        _open.cursor = None
        raise ValueError(str(error)) from error
    if isinstance(value, list):
        if payload["position"] == ONLY and len(value) != 1:
            raise ValueError(f"the row holds {len(value)} pictures")
        if not ONLY <= payload["position"] < len(value):
            raise ValueError(f"the row holds {len(value)} pictures, fewer than were planned")
        value = value[payload["position"]]
    content = value.get("bytes") if isinstance(value, Mapping) else value
    if not isinstance(content, bytes):
        named = f": it names the file {value.get('path')}" if isinstance(value, Mapping) else ""
        raise ValueError(f"the row holds no picture{named}")
    return content
