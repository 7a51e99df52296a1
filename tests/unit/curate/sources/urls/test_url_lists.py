"""Lists as LAION, CC12M and their like ship them, and lists that are damaged or say something else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.config import SourceConfig
from components.curate.sources.urls.lists import (
    BadRow,
    ListOptions,
    UrlRow,
    list_files,
    parse_options,
    read_rows,
)
from components.curate.sources.urls.selection import chosen, refusal, wanted
from components.errors import ConfigError, SourceError

COLUMNS = ("URL", "TEXT", "LICENSE", "WIDTH", "HEIGHT")
ROWS: list[dict[str, Any]] = [
    dict(zip(COLUMNS, values, strict=True))
    for values in (
        ("http://a.test/1.jpg", "a cat, asleep", "CC-BY-4.0", 640, 480),
        ("http://b.test/2.jpg", 'a "dog"\nin two lines', "?", 32, 900),
        ("http://c.test/ü.jpg", "ein Vögelchen", None, None, None),
    )
]
OPTIONS = ListOptions(licence="LICENSE", width="WIDTH", height="HEIGHT", facts=["WIDTH"])


def write_json_lines(path: Path) -> None:
    path.write_text("\n".join(json.dumps(row) for row in ROWS) + "\n\n")


WRITERS: dict[str, Callable[[Path], Any]] = {
    ".parquet": lambda path: pd.DataFrame(ROWS).to_parquet(path),
    ".csv": lambda path: pd.DataFrame(ROWS).to_csv(path, index=False),
    ".tsv": lambda path: pd.DataFrame(ROWS).to_csv(path, index=False, sep="\t"),
    ".jsonl": write_json_lines,
}


@pytest.mark.parametrize("suffix", WRITERS)
def test_list_of_any_kind_gives_the_same_rows(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"list{suffix}"
    WRITERS[suffix](path)
    rows = list(read_rows([path], OPTIONS))
    assert [(row.url, row.caption) for row in rows] == [(row["URL"], row["TEXT"]) for row in ROWS]
    assert [row.licence for row in rows] == ["CC-BY-4.0", "", ""]
    assert [row.short_side for row in rows] == [480, 32, None]
    assert [float(row.facts["WIDTH"]) if row.facts else None for row in rows] == [640, 32, None]


def test_values_that_are_no_text_become_text(tmp_path: Path) -> None:
    path = tmp_path / "odd.jsonl"
    path.write_text(
        '{"url": NaN, "caption": null}\n{"caption": ["a"], "url": 7}\n'
        '{"url": "http://a.test/\\ud800", "caption": ""}\n'
    )
    assert list(read_rows([path], ListOptions())) == [
        UrlRow("", ""),
        UrlRow("7", "['a']"),
        UrlRow("http://a.test/?", ""),
    ]


def test_column_that_is_missing_is_named_with_those_that_exist(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("link,words\nhttp://a.test/1.jpg,a cat\n")
    with pytest.raises(ConfigError, match="no column 'url'") as caught:
        list(read_rows([path], ListOptions()))
    assert "it has link, words" in str(caught.value)
    assert list(read_rows([path], ListOptions(url="link", caption="words"))) == [
        UrlRow("http://a.test/1.jpg", "a cat")
    ]


@pytest.mark.parametrize(
    "name, content",
    [
        ("a.parquet", b"PAR1 and nothing else"),
        ("a.jsonl", b'["no object"]\n'),
        ("a.jsonl", '{"url": "http://a.test/1.jpg", "caption": "a"}'.encode("utf-16")),
        ("a.csv", b"url,caption\xff\nhttp://a.test/1.jpg,a\n"),
        ("a.csv", b'url,caption\nhttp://a.test/1.jpg,"' + b"x" * 200_000 + b'"\n'),
    ],
)
def test_list_that_is_damaged_is_an_error_that_names_it(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SourceError, match="cannot be read") as caught:
        list(read_rows([path], ListOptions()))
    assert str(path) in str(caught.value)


GOOD = b'{"url": "http://a.test/1.jpg", "caption": "a"}'


@pytest.mark.parametrize(
    ("name", "content", "codes"),
    [
        ("a.jsonl", GOOD + b"\n{bad\n" + GOOD, ["", "json_syntax", ""]),
        ("a.jsonl", b"{bad\n\n" + GOOD + b'\n{"url": ', ["json_syntax", "", "json_syntax"]),
        ("a.jsonl", GOOD + b'\n{"url": "caf\xe9"}\n' + GOOD, ["", "invalid_utf8", ""]),
        ("a.jsonl", b"[1]\n" + GOOD, ["json_not_an_object", ""]),
        ("a.jsonl", b"[" * 100_000 + b"\n" + GOOD, ["json_too_deep", ""]),
        ("a.jsonl", b'{"url": "' + b"x" * (1 << 20) + b'"}\n' + GOOD, ["json_too_large", ""]),
        ("a.csv", b"url,caption\nhttp://a/1,caf\xe9\nhttp://a/2,caf\xc3\xa9\n", ["invalid_utf8", ""]),
    ],
)
def test_line_that_is_damaged_is_refused_and_the_next_are_read(
    tmp_path: Path, name: str, content: bytes, codes: list[str]
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    rows = list(read_rows([path], ListOptions()))
    assert [row.reason.code if isinstance(row, BadRow) else "" for row in rows] == codes
    bad = [(number, row) for number, row in enumerate(rows, 1) if isinstance(row, BadRow)]
    assert all(row.original_id == f"{name}#{number}" for number, row in bad)
    assert len(wanted(rows, ListOptions())) == 1


def test_text_of_a_parquet_list_that_is_no_utf8_costs_its_row_only(tmp_path: Path) -> None:
    captions = pa.array([b"a", b"caf\xe9", b"c"]).view(pa.string())
    pq.write_table(pa.table({"url": ["1", "2", "3"], "caption": captions}), tmp_path / "a.parquet")
    rows = list(read_rows([tmp_path / "a.parquet"], ListOptions()))
    assert rows[0] == UrlRow("1", "a") and rows[2] == UrlRow("3", "c")
    assert isinstance(rows[1], BadRow) and rows[1].reason.code == "invalid_utf8"


def test_locator_names_a_file_a_directory_or_a_pattern_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("b.csv", "a.parquet", "c.jsonl", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in list_files(f"urls:{tmp_path}")] == ["a.parquet", "b.csv", "c.jsonl"]
    assert [path.name for path in list_files(f"urls:{tmp_path}/[bc].*")] == ["b.csv", "c.jsonl"]
    assert [path.name for path in list_files(f"urls:{tmp_path}/b.csv")] == ["b.csv"]


@pytest.mark.parametrize("name", ["missing.csv", "*.nothing", "notes.txt"])
def test_locator_without_a_list_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ConfigError, match="list of URLs"):
        list_files(f"urls:{tmp_path}/{name}")


@pytest.mark.parametrize("options", [{"split_by": "colour"}, {"sample": 0.0}, {"unknown": 1}])
def test_option_with_an_impossible_value_is_an_error(options: dict[str, Any]) -> None:
    source = SourceConfig(locator="urls:list.csv", category="web", options=options)
    with pytest.raises(ConfigError, match=f"option '{next(iter(options))}'"):
        parse_options(source)


def test_declared_size_refuses_what_is_surely_too_small() -> None:
    options = ListOptions(min_side=64)
    sides = {10: True, 64: False, None: False}
    assert {side: refusal(UrlRow("u", "", short_side=side), options) is not None for side in sides} == sides


def test_sample_of_urls_stays_the_same_when_the_list_grows() -> None:
    urls = [f"http://a.test/{number}.jpg" for number in range(2000)]
    half = ListOptions(sample=0.5)
    taken = wanted([UrlRow(url, "") for url in urls[:1000]], half)
    assert 400 < len(taken) < 600
    assert taken == [url for url in wanted([UrlRow(url, "") for url in urls], half) if url in urls[:1000]]
    assert all(chosen(url, ListOptions()) for url in urls)
    assert wanted([UrlRow("a", "one"), UrlRow("b", ""), UrlRow("a", "two")], ListOptions()) == ["a", "b"]
