"""Journals: what was appended is there again, whatever a kill left behind."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.errors import OpsinError
from components.journal import Journal

RECORDS = st.lists(st.dictionaries(st.text(max_size=5), st.text() | st.integers(), max_size=3), max_size=6)


@given(RECORDS, RECORDS, st.integers(0, 200))
def test_journal_cut_anywhere_keeps_all_whole_lines_and_goes_on(
    before: list[dict[str, Any]], after: list[dict[str, Any]], cut: int
) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "journal.jsonl"
        with Journal(path, lambda record: None) as journal:
            for record in before:
                journal.append(record)
        whole = path.read_bytes()
        path.write_bytes(whole[:cut])
        kept = whole[:cut].count(b"\n")
        with Journal(path, lambda record: None) as journal:
            for record in after:
                journal.append(record)
        seen: list[dict[str, Any]] = []
        with Journal(path, seen.append):
            assert seen == before[:kept] + after


def test_journal_is_open_in_one_place_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with (
        Journal(path, lambda record: None),
        pytest.raises(OpsinError, match="another run"),
        Journal(path, lambda record: None),
    ):
        pass
    with Journal(path, lambda record: None) as journal:
        journal.append({"a": 1})


def test_journal_opened_again_replays_only_what_is_new(tmp_path: Path) -> None:
    path, seen = tmp_path / "journal.jsonl", list[dict[str, Any]]()
    journal = Journal(path, seen.append)
    with journal:
        journal.append({"a": 1})
    with Journal(path, lambda record: None) as other:
        other.append({"b": 2})
    with journal:
        journal.append({"c": 3})
    assert seen == [{"a": 1}, {"b": 2}, {"c": 3}]


def test_journal_names_a_line_that_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"a": 1}\n\x00\x00\n{"a": 2}\n')
    with pytest.raises(OpsinError, match=r"damaged: b'\\x00"), Journal(path, lambda record: None):
        pass
