from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.curate.samples import Reason
from components.curate.sources.files.rows import read_rows


def read(path: Path, content: bytes | str) -> list[Any]:
    """Rows, and the codes of those that are none."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return [each.code if isinstance(each, Reason) else each for each in read_rows(path)]


def test_rows_of_every_format_are_the_same(tmp_path: Path) -> None:
    rows = [{"a": "1", "b": 'x, "y"\nz'}, {"a": "2", "b": "café"}]
    csv = 'a,b\n1,"x, ""y""\nz"\n2,café\n'
    assert read(tmp_path / "t.jsonl", "\n".join(map(json.dumps, rows))) == rows
    assert read(tmp_path / "t.json", json.dumps(rows, indent=2)) == rows
    assert read(tmp_path / "t.csv", "\ufeff" + csv) == rows
    assert (
        read(tmp_path / "t.TSV", csv.replace("1,", "1\t").replace("2,", "2\t").replace("a,", "a\t")) == rows
    )
    assert read(tmp_path / "one.json", json.dumps(rows[0])) == rows[:1]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("t.csv", "a,b\n1\n1,2\n1,2,3\n", ["bad_row", {"a": "1", "b": "2"}, "bad_row"]),
        ("t.csv", "", []),
        ("t.csv", "a\n\nx\n", [{"a": "x"}]),
        ("t.csv", "a\n" + "x" * 200_000 + "\n", ["corrupt_table"]),
        ("t.json", "[]", []),
        ("t.json", '[{"a": 1}, {"a": NaN}, 3]', [{"a": 1}, "json_not_finite", "json_not_an_object"]),
        ("t.json", '[{"a": 1}, {"a"', [{"a": 1}, "corrupt_table"]),
        ("t.json", "[" * 100_000, ["corrupt_table"]),
        ("t.json", "", ["json_syntax"]),
        ("t.jsonl", b'{"a": "caf\xe9"}\n{"a": 1}', ["invalid_utf8", {"a": 1}]),
        ("t.jsonl", '{"a": ' * 100 + "1" + "}" * 100, ["json_too_deep"]),
        ("t.jsonl", '{"a": 1, "a": 2}', ["json_duplicate_key"]),
    ],
)
def test_rows_that_are_bad_are_told_from_good_ones(
    tmp_path: Path, name: str, content: bytes | str, expected: list[Any]
) -> None:
    assert read(tmp_path / name, content) == expected


@given(st.binary(max_size=400), st.sampled_from(["t.csv", "t.tsv", "t.json", "t.jsonl"]))
def test_rows_no_bytes_end_a_run(tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str) -> None:
    rows = read(tmp_path_factory.getbasetemp() / name, content)
    assert all(isinstance(each, dict | str | Reason) for each in rows)
