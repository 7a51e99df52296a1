"""The review sample: drawn by seed, written for people, read back, judged."""

from __future__ import annotations

import csv
import html
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from components.config.annotate import ReviewConfig
from components.curate.annotate import Proposed
from components.curate.annotate.review import choose_review, count_reviews, read_reviews, write_review
from components.curate.samples import Turn
from components.errors import ConfigError

CONFIG = ReviewConfig(at_least=30, share=0.01)


def turns(number: int) -> dict[str, tuple[Proposed, ...]]:
    return {
        f"s-{n:04d}": tuple(
            Proposed(Turn(f"question {n}-{k}?", f"answer {n}-{k}"), "facts") for k in range(2)
        )
        for n in range(number)
    }


@given(st.integers(0, 60), st.integers(0, 5))
def test_review_sample_is_seeded_and_as_large_as_asked(number: int, seed: int) -> None:
    population = turns(number)
    rows = choose_review(population, CONFIG, seed=seed)
    assert len(rows) == min(2 * number, 30)
    assert len({(row.key, row.turn) for row in rows}) == len(rows)
    backwards = dict(reversed(population.items()))
    assert choose_review(backwards, CONFIG, seed=seed) == rows


def test_review_sample_takes_its_share_of_many_and_changes_with_the_seed() -> None:
    population = turns(2500)
    rows = choose_review(population, CONFIG, seed=0)
    assert len(rows) == 50
    assert choose_review(population, CONFIG, seed=1) != rows


def write(tmp_path: Path, number: int = 20, answer: str = "answer") -> list[Any]:
    rows = choose_review(
        {"a/<b>": (Proposed(Turn("What?", answer), "teacher", "seen"),), **turns(number)}, CONFIG, seed=0
    )
    picture = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(picture, "PNG")
    write_review(rows, tmp_path / "review", lambda key: picture.getvalue() if "1" in key else None)
    return rows


def test_review_page_shows_pictures_and_escapes_what_strangers_wrote(tmp_path: Path) -> None:
    rows = choose_review(
        {"k": (Proposed(Turn("What?", "<script>alert(1)</script>"), "ocr"),)}, CONFIG, seed=0
    )
    picture = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(picture, "JPEG")
    write_review(rows, tmp_path, lambda key: picture.getvalue())
    page = (tmp_path / "review.html").read_text()
    assert "data:image/jpeg;base64," in page
    assert "<script>alert" not in page and html.escape("<script>alert(1)</script>") in page


def test_review_table_runs_no_formula_in_a_spreadsheet(tmp_path: Path) -> None:
    rows = choose_review({"k": (Proposed(Turn("=HYPERLINK(1)", "@SUM(1)\n+2"), "ocr"),)}, CONFIG, seed=0)
    write_review(rows, tmp_path, lambda key: None)
    (record,) = table(tmp_path)
    assert record["question"] == "'=HYPERLINK(1)" and record["answer"] == "'@SUM(1)\n+2"
    assert json.loads((tmp_path / "review.jsonl").read_text())["question"] == "=HYPERLINK(1)"


def table(path: Path) -> list[dict[str, str]]:
    text = (path / "review.csv").read_bytes().decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def filled(path: Path, verdicts: dict[int, str]) -> Path:
    """The CSV as a person hands it back."""
    records = table(path)
    back = path / "back.csv"
    with back.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(records[0]))
        writer.writeheader()
        for number, record in enumerate(records):
            writer.writerow({**record, "accepted": verdicts.get(number, "")})
    return back


def test_reviews_come_back_from_the_table_that_was_written(tmp_path: Path) -> None:
    rows = write(tmp_path)
    back = filled(tmp_path / "review", {0: "yes", 1: "No", 2: "TRUE", 3: "0", 4: "accepted"})
    counts = count_reviews(rows, ReviewConfig(file=str(back)), population=41)
    assert (counts.accepted, counts.rejected, counts.pending, counts.stale) == (3, 2, 25, 0)


def test_reviews_come_back_from_jsonl_and_without_a_digest(tmp_path: Path) -> None:
    rows = write(tmp_path)
    path = tmp_path / "back.jsonl"
    first, second = rows[0], rows[1]
    records = [
        {"key": first.key, "turn": first.turn, "accepted": True, "note": "fine"},
        {"key": second.key, "turn": str(second.turn), "accepted": "no", "note": None},
    ]
    path.write_text("\n\n".join(map(json.dumps, records)))
    counts = count_reviews(rows, ReviewConfig(file=str(path)), population=41)
    assert (counts.accepted, counts.rejected, counts.pending) == (1, 1, 28)


def test_reviews_of_a_spreadsheet_with_semicolons_are_read(tmp_path: Path) -> None:
    path = tmp_path / "back.csv"
    path.write_text("\ufeffkey;turn;accepted;note\ns-1;0;ja;\ns-2;1;yes;a, b\n")
    reviews, problems = read_reviews(path)
    assert [(each.key, each.turn, each.accepted) for each in reviews] == [("s-2", "1", True)]
    assert problems == ["line 2: accepted = 'ja' is neither yes nor no"]


def test_review_of_an_answer_that_has_changed_since_is_stale(tmp_path: Path) -> None:
    write(tmp_path, number=2, answer="old answer")
    back = filled(tmp_path / "review", dict.fromkeys(range(5), "no"))
    rows = write(tmp_path, number=2, answer="new answer")
    counts = count_reviews(rows, ReviewConfig(file=str(back)), population=5)
    assert (counts.rejected, counts.pending, counts.stale) == (4, 1, 1)


def test_malformed_reviews_are_named_with_their_lines(tmp_path: Path) -> None:
    rows = write(tmp_path)
    path = tmp_path / "back.csv"
    key, turn = rows[0].key, rows[0].turn
    lines = [
        "key,turn,accepted,note",
        f"{key},{turn},yes,good",
        f"{key},{turn},no,changed my mind",
        f"{key},{turn},perhaps,",
        "nobody,0,yes,",
        f"{key},first,yes,",
        f",{turn},yes,",
        f"{key},{turn},yes,a,b,c",
    ]
    path.write_text("\n".join(lines))
    with pytest.raises(ConfigError) as raised:
        count_reviews(rows, ReviewConfig(file=str(path)), population=41)
    for line in range(3, 9):
        assert f"line {line}:" in str(raised.value)
    assert "line 2:" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("back.csv", b"key,accepted\na,yes\n", "no column turn"),
        ("back.csv", b"\xff\xfe\x00", "cannot be read"),
        ("back.jsonl", b"[1]\n", "line 1: not an object"),
        ("back.jsonl", b'{"key": "a"\n', "line 1: not JSON"),
        ("back.xlsx", b"PK", "CSV or JSONL"),
        ("absent.csv", None, "cannot be read"),
    ],
)
def test_file_that_holds_no_reviews_says_why(
    tmp_path: Path, name: str, content: bytes | None, said: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        count_reviews([], ReviewConfig(file=str(tmp_path / name)), population=1)


def test_review_that_could_never_pass_is_refused_with_the_number_that_could() -> None:
    with pytest.raises(ValidationError, match="25 can"):
        ReviewConfig(at_least=10, min_accepted_rate=0.9, confidence=0.95)
    ReviewConfig(at_least=25, min_accepted_rate=0.9, confidence=0.95)
