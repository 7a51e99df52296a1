"""Questions that are computed from a table: how many, which is highest, what stands where, which is more.

A sample carries its table as JSON in one of its facts: `{"columns": [...], "rows": [[...], ...]}`; the
first column names the rows. A question is asked only where it has one answer: no ties, no missing or
doubled names, no value that is not finite.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.config.annotate import TableFactsConfig
from components.curate.annotate.proposals import AnnotationInput, Proposed
from components.curate.samples import Reason, Turn, share

MAX_ROWS = 200
"""A longer table cannot be read off a picture."""


@dataclass(frozen=True)
class Column:
    """One column of numbers, by the name of its rows."""

    name: str
    texts: Mapping[str, str]
    """Row → the number as it is written."""
    values: Mapping[str, float]


@dataclass(frozen=True)
class Table:
    """A table whose rows have names."""

    names: tuple[str, ...]
    columns: tuple[Column, ...]
    """The columns in which every value is a number."""


def ask_table(sample: AnnotationInput, config: TableFactsConfig, *, seed: int) -> list[Proposed] | Reason:
    """Questions of different kinds about a sample's table, `config.per_sample` at most.

    Gives an empty list for a sample without a table, and a Reason (`bad_table`) for one that is none.
    """
    text = sample.facts.get(config.fact, "")
    if not text.strip():
        return []
    table = read_table(text)
    if isinstance(table, Reason):
        return table
    ranked = sorted(config.kinds, key=lambda kind: share(seed, "table", sample.key, kind))
    turns = (KINDS[kind](table, _Chooser(seed, sample.key, kind)) for kind in ranked)
    found = [(kind, turn) for kind, turn in zip(ranked, turns, strict=True) if turn is not None]
    return [Proposed(turn, "tables", kind) for kind, turn in found[: config.per_sample]]


def read_table(text: str) -> Table | Reason:
    """A table from its JSON, or why it is none (`bad_table`)."""
    try:
        value = json.loads(text, parse_constant=lambda name: None)
    except (ValueError, RecursionError) as error:
        return Reason("bad_table", evidence=f"not JSON: {error}"[:200])
    columns = value.get("columns") if isinstance(value, dict) else None
    rows = value.get("rows") if isinstance(value, dict) else None
    if not isinstance(columns, list) or not isinstance(rows, list) or not rows or len(columns) < 2:
        return Reason("bad_table", evidence="no `columns` (two or more) and `rows`")
    if len(rows) > MAX_ROWS:
        return Reason("bad_table", evidence=f"{len(rows)} rows")
    if any(not isinstance(row, list) or len(row) != len(columns) for row in rows):
        return Reason("bad_table", evidence="a row that has not as many values as there are columns")
    names = tuple(" ".join(str(row[0]).split()) for row in rows)
    if len(set(names)) < len(names) or not all(names):
        return Reason("bad_table", evidence="rows without a name of their own")
    numeric = (_column(str(name), names, [row[n] for row in rows]) for n, name in enumerate(columns) if n)
    return Table(names, tuple(column for column in numeric if column is not None))


def _column(name: str, rows: Sequence[str], cells: Sequence[Any]) -> Column | None:
    values = [_number(cell) for cell in cells]
    if not name.strip() or any(value is None for value in values):
        return None
    texts = [str(cell).strip() for cell in cells]
    return Column(
        name.strip(),
        dict(zip(rows, texts, strict=True)),
        {row: value for row, value in zip(rows, values, strict=True) if value is not None},
    )


def _number(cell: Any) -> float | None:
    """A finite number from a cell; thousands separators are read over."""
    if isinstance(cell, bool) or not isinstance(cell, int | float | str):
        return None
    try:
        value = float(cell.replace(",", "") if isinstance(cell, str) else cell)
    except (ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None


class _Chooser:
    """Choices that hang on the sample alone."""

    def __init__(self, seed: int, key: str, kind: str) -> None:
        self._parts = (key, kind)
        self._seed, self._number = seed, 0

    def index(self, size: int) -> int:
        self._number += 1
        return int(share(self._seed, "choice", *self._parts, str(self._number)) * size)

    def one(self, items: Sequence[Any]) -> Any:
        return items[self.index(len(items))]


def _count(table: Table, choose: _Chooser) -> Turn | None:
    wording = choose.one(("How many rows does the table have?", "How many entries are listed?"))
    return Turn(wording, str(len(table.names)))


def _lookup(table: Table, choose: _Chooser) -> Turn | None:
    if not table.columns:
        return None
    column, row = choose.one(table.columns), choose.one(table.names)
    wording = choose.one(("What is the {column} of {row}?", "Which value of {column} does {row} have?"))
    return Turn(wording.format(column=column.name, row=row), column.texts[row])


def _maximum(table: Table, choose: _Chooser) -> Turn | None:
    return _extreme(table, choose, max, "highest")


def _minimum(table: Table, choose: _Chooser) -> Turn | None:
    return _extreme(table, choose, min, "lowest")


def _extreme(
    table: Table, choose: _Chooser, best: Callable[[Sequence[float]], float], word: str
) -> Turn | None:
    if len(table.names) < 2 or not table.columns:
        return None
    column: Column = choose.one(table.columns)
    value = best(list(column.values.values()))
    rows = [row for row, each in column.values.items() if each == value]
    if len(rows) > 1:  # which of them, nobody can say
        return None
    if choose.index(2):
        return Turn(f"What is the {word} {column.name}?", column.texts[rows[0]])
    return Turn(f"Which row has the {word} {column.name}?", rows[0])


def _compare(table: Table, choose: _Chooser) -> Turn | None:
    """Yes and no come equally often: which row is named first is a coin's choice."""
    if len(table.names) < 2 or not table.columns:
        return None
    column: Column = choose.one(table.columns)
    one = choose.one(table.names)
    other = choose.one([row for row in table.names if row != one])
    if column.values[one] == column.values[other]:
        return None
    answer = "yes" if column.values[one] > column.values[other] else "no"
    return Turn(f"Is the {column.name} of {one} higher than that of {other}?", answer)


KINDS: Mapping[str, Callable[[Table, _Chooser], Turn | None]] = {
    "count": _count,
    "lookup": _lookup,
    "maximum": _maximum,
    "minimum": _minimum,
    "compare": _compare,
}
