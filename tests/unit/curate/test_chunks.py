"""Work in chunks: rows of every shape come back in order, and what was finished is not done again."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from components.curate.chunks import Blob, Row, run_in_chunks
from components.curate.engines import LocalEngine

done: list[int] = []


@pytest.fixture
def engine() -> LocalEngine:
    done.clear()
    return LocalEngine(1, ExitStack())


def square(numbers: Sequence[int], blob: Blob) -> list[Row]:
    rows: list[Row] = []
    for number in numbers:
        done.append(number)
        place = blob.append(b"x" * number)
        rows.append({"code": "odd"} if number % 2 else {"square": number**2, "offset": place.offset})
    return rows


def test_chunks_give_rows_in_order_whatever_the_first_one_holds(tmp_path: Path, engine: LocalEngine) -> None:
    for numbers in ([1, 2, 3, 4, 5], [2, 1]):
        rows = run_in_chunks(engine, "x", square, numbers, tmp_path / str(len(numbers)), size=2).rows
        assert [row.get("square") for row in rows] == [None if n % 2 else n**2 for n in numbers]
        assert [bool(row.get("code")) for row in rows] == [bool(n % 2) for n in numbers]


def test_chunks_that_are_finished_are_read_and_not_done_again(tmp_path: Path, engine: LocalEngine) -> None:
    first = run_in_chunks(engine, "x", square, range(7), tmp_path, size=3)
    (tmp_path / "00001.parquet").unlink()
    done.clear()
    again = run_in_chunks(engine, "x", square, range(7), tmp_path, size=3)
    assert again.rows == first.rows and done == [3, 4, 5]


def test_chunk_that_fails_leaves_nothing_that_looks_finished(tmp_path: Path, engine: LocalEngine) -> None:
    def fail(numbers: Sequence[int], blob: Blob) -> list[Row]:
        blob.append(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        run_in_chunks(engine, "x", fail, [1, 2], tmp_path)
    assert not list(tmp_path.glob("*.parquet")) and not (tmp_path / "00000.blob").exists()


def test_chunks_of_nothing_are_no_rows(tmp_path: Path, engine: LocalEngine) -> None:
    assert run_in_chunks(engine, "x", square, [], tmp_path).rows == []
