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
from components.curate.sources.pairs import Layout
from components.errors import ConfigError

Row: TypeAlias = dict[str, Any]
PLANNED_ROWS = 1024
"""Rows whose texts are in memory at a time while planning."""
LOADED_ROWS = 8
"""Rows whose pictures are in memory at a time while loading."""
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
    """In the row's list of pictures; 0 where the column holds one."""

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
                    row[self.image] = next(pictures)
                yield row

    def _text_rows(self, group: int) -> Iterator[Row]:
        if not self.texts:
            yield from ({} for _ in range(self.file.metadata.row_group(group).num_rows))
            return
        for batch in self.file.iter_batches(
            PLANNED_ROWS, row_groups=[group], columns=self.texts, use_threads=False
        ):
            yield from batch.to_pylist()

    def _pictures(self, group: int) -> Iterator[list[Any]]:
        """For every row its pictures, in order: embedded ones, and paths of those that lie beside."""
        paths = self._paths(group)
        whole = not paths
        columns, size = ([self.image], LOADED_ROWS) if whole else ([paths], PLANNED_ROWS)
        row = 0
        for batch in self.file.iter_batches(size, row_groups=[group], columns=columns, use_threads=False):
            for value in batch.column(0).to_pylist():
                several = value if isinstance(value, list) else [value]
                yield [
                    self._picture(each, Embedded(self.path, group, row, self.image, position), whole)
                    for position, each in enumerate(several)
                ]
                row += 1

    def _picture(self, value: Any, place: Embedded, whole: bool) -> Any:
        """What stands for one picture; None where there is none."""
        if value is None:
            return None
        if not whole or isinstance(value, bytes) or value.get("bytes") is not None:
            return place
        return value.get("path")

    def _paths(self, group: int) -> str:
        """The column that tells which rows have a picture; empty where only the bytes themselves do.

        That is the `path` beside the bytes, as long as no picture has a path and no bytes: the file's own
        statistics count what is missing.
        """
        chunks = self.file.metadata.row_group(group)
        leaves = {chunk.path_in_schema: chunk for chunk in map(chunks.column, range(chunks.num_columns))}
        held = next(
            (each for each in leaves if each.startswith(f"{self.image}.") and each.endswith(".bytes")), ""
        )
        paths = held.removesuffix("bytes") + "path"
        statistics = leaves[held].statistics if held and paths in leaves else None
        if statistics is None or not statistics.has_null_count:
            return ""
        absent = 0
        for batch in self.file.iter_batches(
            PLANNED_ROWS, row_groups=[group], columns=[paths], use_threads=False
        ):
            column = batch.column(0)
            if _is_list(column.type):
                absent += sum(not each for each in column.to_pylist()) + column.flatten().null_count
            else:
                absent += column.null_count
        return paths if absent == statistics.null_count else ""


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
    written = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    features = written.get("info", {}).get("features", {}) if isinstance(written, dict) else {}
    return {
        name: feature["names"]
        for name, feature in features.items()
        if isinstance(feature, Mapping) and feature.get("_type") == "ClassLabel" and "names" in feature
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
        value = value[payload["position"]]
    content = value.get("bytes") if isinstance(value, Mapping) else value
    if not isinstance(content, bytes):
        raise ValueError("the row holds no picture")
    return content
