"""OCR with the packaged model on rendered text of known content, and the steps around it."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from components.config.annotate import OcrConfig
from components.curate.annotate import AnnotationInput, ocr
from components.curate.annotate.ocr import (
    Line,
    Page,
    ask_ocr,
    in_reading_order,
    judge_page,
    merge_boxes,
    read_pages,
)
from components.curate.annotate.spacing import restore_spaces
from components.curate.samples import Reason
from components.errors import OpsinError

FONT = ImageFont.load_default(size=24)
TEXTS = (
    "The harbour is closed on Sundays",
    "Total 1,284.50 paid in cash",
    "Please keep the door shut",
    "Platform 9 trains to the north",
)


def draw(*lines: str, size: tuple[int, int] = (460, 120), kind: str = "PNG", **how: Any) -> bytes:
    page = Image.new("RGB", size, "white")
    for number, line in enumerate(lines):
        ImageDraw.Draw(page).text((20, 20 + 44 * number), line, fill="black", font=FONT)
    buffer = io.BytesIO()
    page.save(buffer, kind, **how)
    return buffer.getvalue()


def read(tmp_path: Path, *images: bytes | None, threads: int = 1, name: str = "ocr") -> list[Page | Reason]:
    samples = [AnnotationInput(str(n), image) for n, image in enumerate(images)]
    return read_pages(samples, OcrConfig(), cache=tmp_path / f"{name}.jsonl", threads=threads)


def edits(one: str, other: str) -> int:
    """Levenshtein distance."""
    row = list(range(len(other) + 1))
    for n, a in enumerate(one, 1):
        above, row[0] = row[0], n
        for m, b in enumerate(other, 1):
            above, row[m] = row[m], min(row[m] + 1, row[m - 1] + 1, above + (a != b))
    return row[-1]


def test_rendered_text_is_read_with_few_errors_and_its_spaces(tmp_path: Path) -> None:
    pages = read(tmp_path, *(draw(*TEXTS[n : n + 2]) for n in (0, 2)))
    truth = ["\n".join(TEXTS[n : n + 2]) for n in (0, 2)]
    texts = [page.text for page in pages if isinstance(page, Page)]
    # benchmarks/ocr_accuracy.py measures 1.4%; only a broken reader makes so many errors.
    assert sum(map(edits, texts, truth)) <= 0.06 * sum(map(len, truth))
    assert [text.count(" ") for text in texts] == [text.count(" ") for text in truth]


def test_boxes_lie_where_the_text_was_drawn_even_in_a_picture_that_is_made_smaller(tmp_path: Path) -> None:
    image = draw("", "harbour", size=(900, 300))
    left, top, right, bottom = FONT.getbbox("harbour")
    for config in (OcrConfig(), OcrConfig(max_side=600)):
        (page,) = read_pages(
            [AnnotationInput("a", image)], config, cache=tmp_path / f"{config.max_side}.jsonl", threads=1
        )
        assert isinstance(page, Page) and page.text == "harbour"
        (box,) = (piece.box for piece in page.pieces)
        drawn = (20 + left, 64 + top, 20 + right, 64 + bottom)
        assert all(abs(a - b) <= 12 for a, b in zip(box, drawn, strict=True))
        assert json.loads(page.facts()["ocr_boxes"])[0][:5] == [*box, "harbour"]


def test_picture_of_the_source_is_read_and_not_the_delivered_one(tmp_path: Path) -> None:
    delivered, config = draw("something else"), OcrConfig(max_side=700)
    samples = [
        AnnotationInput("a", delivered, original=lambda side: draw("harbour", size=(side, 100))),
        AnnotationInput("b", delivered, original=lambda side: Reason("unreadable")),
    ]
    page, reason = read_pages(samples, config, cache=tmp_path / "ocr.jsonl", threads=1)
    assert isinstance(page, Page) and page.text == "harbour"
    assert reason == Reason("unreadable")


def test_rotated_by_exif_is_read_upright(tmp_path: Path) -> None:
    upright = Image.open(io.BytesIO(draw("harbour", size=(300, 80))))
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(buffer, "JPEG", exif=exif, quality=95)
    (page,) = read(tmp_path, buffer.getvalue())
    assert isinstance(page, Page) and page.text == "harbour"


@pytest.mark.parametrize("mode", ["RGBA", "P"])
def test_text_on_transparent_paper_is_read_whatever_lies_under_it(tmp_path: Path, mode: str) -> None:
    page = Image.new("RGBA", (200, 70), (0, 0, 0, 0))
    ImageDraw.Draw(page).text((20, 20), "harbour", fill=(0, 0, 0, 255), font=FONT)
    buffer = io.BytesIO()
    (page if mode == "RGBA" else page.quantize(8)).save(buffer, "PNG")
    (read_back,) = read(tmp_path, buffer.getvalue())
    assert isinstance(read_back, Page) and read_back.text == "harbour"


def test_what_is_read_hangs_on_nothing_but_the_picture(tmp_path: Path) -> None:
    images = [draw(text, size=(200, 70)) for text in ("one", "two words", "3.50")]
    alone = [read(tmp_path, image, name=f"alone-{n}")[0] for n, image in enumerate(images)]
    assert read(tmp_path, *images, threads=3, name="threads") == alone
    assert read(tmp_path, *reversed(images), name="reversed") == alone[::-1]


def test_pictures_are_read_once_and_a_half_written_result_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [draw("one"), draw("two"), draw("one"), None]
    first = read(tmp_path, *images)
    assert len((tmp_path / "ocr.jsonl").read_text().splitlines()) == 2

    def refuse() -> None:
        raise OpsinError("read again")

    monkeypatch.setattr(ocr, "load_engine", refuse)
    assert read(tmp_path, *images) == first
    path = tmp_path / "ocr.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(OpsinError, match="read again"):
        read(tmp_path, *images)


@pytest.mark.parametrize(
    ("image", "code"),
    [(None, "no_image"), (b"", "bad_image"), (b"no image", "bad_image"), (draw("x" * 20)[:200], "bad_image")],
    ids=["none", "empty", "text", "truncated"],
)
def test_what_is_no_picture_has_a_reason(tmp_path: Path, image: bytes | None, code: str) -> None:
    (reason,) = read(tmp_path, image)
    assert isinstance(reason, Reason) and reason.code == code


def test_picture_without_text_is_left_out(tmp_path: Path) -> None:
    (blank,) = read(tmp_path, draw())
    assert isinstance(blank, Page)
    assert judge_page(blank, OcrConfig()) == Reason("no_text")


@pytest.mark.parametrize(
    ("pieces", "code"),
    [
        ([("Grand", 0.99), ("Hotel", 0.95)], ""),
        ([("Grand", 0.99), ("Hote1", 0.6)], "low_confidence"),
        ([("x", 0.99)], "no_text"),
        ([("long " * 300, 0.99)], "long_text"),
    ],
)
def test_pages_are_judged_by_their_worst_line(pieces: list[tuple[str, float]], code: str) -> None:
    lines = tuple((Line((0, 0, 9, 9), text, confidence),) for text, confidence in pieces)
    reason = judge_page(Page(lines), OcrConfig())
    assert (reason.code if reason else "") == code


def test_question_about_the_text_is_worded_by_hash() -> None:
    page = Page(((Line((0, 0, 9, 9), "Grand Hotel", 0.987),),))
    config = OcrConfig(questions=("Read it.", "What does it say?"))
    asked = [ask_ocr(AnnotationInput(str(n), None), page, config, seed=0) for n in range(30)]
    assert {each.turn.question for each in asked} == {"Read it.", "What does it say?"}
    assert {each.turn.answer for each in asked} == {"Grand Hotel"}
    assert "0.987" in asked[0].evidence


@given(st.integers(1, 5), st.integers(1, 4), st.randoms(use_true_random=False))
def test_reading_order_is_found_again_however_the_pieces_come(
    rows: int, columns: int, noise: random.Random
) -> None:
    lines = [
        [
            Line((100 * c, 40 * r + noise.randint(-6, 6), 100 * c + 80, 40 * r + 24), f"{r}-{c}", 1.0)
            for c in range(columns)
        ]
        for r in range(rows)
    ]
    pieces = [piece for line in lines for piece in line]
    noise.shuffle(pieces)
    assert [list(line) for line in in_reading_order(pieces)] == lines


def box(x0: float, y0: float, x1: float, y1: float, slope: float = 0) -> list[list[float]]:
    return [[x0, y0], [x1, y0 + slope], [x1, y1 + slope], [x0, y1]]


@pytest.mark.parametrize(
    ("boxes", "number"),
    [
        ([box(0, 0, 50, 20), box(45, 1, 100, 21)], 1),
        ([box(0, 0, 50, 20), box(60, 0, 100, 20), box(105, 0, 200, 19)], 1),
        ([box(0, 0, 50, 20), box(90, 0, 140, 20)], 2),
        ([box(0, 0, 50, 20), box(0, 22, 50, 42)], 2),
        ([box(0, 0, 50, 20), box(52, 0, 100, 60)], 2),
        ([box(0, 0, 50, 20, slope=15), box(45, 15, 100, 35, slope=15)], 2),
    ],
    ids=["overlapping", "three words", "columns", "lines", "other size", "slanted"],
)
def test_boxes_of_one_line_are_joined_and_others_are_not(boxes: list[Any], number: int) -> None:
    merged = merge_boxes(np.array(boxes, dtype=np.float32))
    assert merged.shape == (number, 4, 2)
    assert merged.min() == np.min(boxes) and merged.max() == np.max(boxes)


@pytest.mark.parametrize("size", [20, 32])
@pytest.mark.parametrize("text", [*TEXTS, "word", "Chancellor", "Go, now!", "19.7"])
def test_spaces_come_back_from_the_gaps_in_the_ink(text: str, size: int) -> None:
    font = ImageFont.load_default(size=size)
    crop = Image.new("RGB", (int(font.getlength(text)) + 12, size + 12), "white")
    ImageDraw.Draw(crop).text((6, 4), text, fill="navy", font=font)
    places = [n for n, char in enumerate(text) if char != " "]
    centres = [6 + (font.getlength(text[:n]) + font.getlength(text[: n + 1])) / 2 for n in places]
    assert restore_spaces(text.replace(" ", ""), centres, np.asarray(crop)) == text


def test_spaces_that_are_there_are_not_doubled_and_empty_paper_has_none() -> None:
    crop = np.full((30, 200, 3), 255, dtype=np.uint8)
    assert restore_spaces("ab", [10.0, 150.0], crop) == "ab"
    crop[8:22, 10:30] = crop[8:22, 60:80] = crop[8:22, 83:99] = 0
    assert restore_spaces("a bc", [20.0, 45.0, 70.0, 90.0], crop) == "a bc"
    assert restore_spaces("abc", [20.0, 70.0, 90.0], crop) == "a bc"
