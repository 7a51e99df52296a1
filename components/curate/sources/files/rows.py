"""Rows of a text table (jsonl, json, csv, tsv), one at a time; a bad one is told from a good one.

A row that cannot be read is a `Reason`; the rows after it are read all the same, as far as the format
lets anyone tell where they begin.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

from components.curate.samples import Reason
from components.curate.sources.files.pairs import LIMITS
from components.curate.tars import parse_json

Row: TypeAlias = dict[str, Any]
SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")
BETWEEN = " \t\r\n,"
"""What stands between the elements of a JSON array."""


def read_rows(path: Path) -> Iterator[Row | Reason]:
    """Every row, in its order.

    Reason codes: those of `parse_json`; `bad_row` (a row with more or fewer fields than the header);
    `corrupt_table` (what follows cannot be told apart).
    """
    if path.suffix.lower() in (".csv", ".tsv"):
        yield from _read_csv(path)
    elif path.suffix.lower() == ".json":
        yield from _read_array(path)
    else:
        yield from (parse_json(line, LIMITS) for line in read_lines(path))


def header(path: Path) -> tuple[str, ...]:
    """Names of the columns of a CSV table; empty for others, whose rows may differ."""
    if path.suffix.lower() not in (".csv", ".tsv"):
        return ()
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        return tuple(next(_csv_reader(path, file), []))


def read_lines(path: Path) -> Iterator[bytes]:
    """Lines that are not blank; of one that is too long to be read, as much as shows it."""
    with path.open("rb") as file:
        while line := file.readline(LIMITS.max_json_bytes + 2):
            if not line.strip():
                continue
            yield line
            while line and not line.endswith(b"\n"):  # the rest of one that is too long
                line = file.readline(LIMITS.max_json_bytes)


def _read_array(path: Path) -> Iterator[Row | Reason]:
    """Elements of one JSON array (LLaVA's files are of that form), or one object a file."""
    text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
    decoder = json.JSONDecoder()
    position = len(text) - len(text.lstrip())
    if not text.startswith("[", position):
        yield parse_json(path.read_bytes(), LIMITS)
        return
    position += 1
    while True:
        while position < len(text) and text[position] in BETWEEN:
            position += 1
        if text.startswith("]", position):
            return
        try:
            _, end = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            yield Reason("corrupt_table", evidence=f"from character {position} on: {error}"[:200])
            return
        yield parse_json(text[position:end].encode("utf-8", "surrogateescape"), LIMITS)
        position = end


def _read_csv(path: Path) -> Iterator[Row | Reason]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = _csv_reader(path, file)
        try:
            names: list[str] = next(reader, [])
            for values in reader:
                if not values:
                    continue
                if len(values) != len(names):
                    evidence = f"line {reader.line_num}: {len(values)} fields instead of {len(names)}"
                    yield Reason("bad_row", evidence=evidence)
                else:
                    yield {name: value for name, value in zip(names, values, strict=True) if name}
        except csv.Error as error:
            yield Reason("corrupt_table", evidence=f"from line {reader.line_num} on: {error}")


def _csv_reader(path: Path, file: Any) -> Any:
    return csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
