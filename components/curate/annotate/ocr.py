"""Text found in pictures by the packaged OCR model (PP-OCRv4, `rapidocr-onnxruntime`).

Each picture is read on its own, never batched with others: the recognizer pads the lines of a batch to
the widest, so that what it reads would hang on the neighbours. Pictures are spread over threads, each with
sessions of one thread: onnxruntime lets go of the interpreter, and two threads inside one session are
slower than two sessions.

Measured on rendered sentences in fonts that nothing was tuned on (`benchmarks/ocr_accuracy.py`, n=200):
character error rate 1.4% [1.2, 1.7]; the package as it is, 5.2% [4.5, 6.0].
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import local
from typing import Any, TypeAlias

import numpy as np
from PIL import Image, ImageOps

from components.config.annotate import OcrConfig
from components.curate.annotate.proposals import OCR_BOXES, OCR_TEXT, AnnotationInput, Proposed
from components.curate.annotate.spacing import restore_spaces
from components.curate.samples import Reason, Turn, share
from components.journal import Journal
from components.progress import Bar

Boxes: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]

SAME_LINE = 0.5
"""Boxes whose heights overlap by this share of the lower one stand on one line."""
DETECTED_SHORT, DETECTED_LONG = 736, 960
"""Pixels that a small picture is brought up to before text is looked for: its shorter side to the first, but
its longer side not above the second."""
LEVEL = 0.15
"""Slope of a level box's top, as a share of its height."""
MERGED_OVERLAP, MERGED_HEIGHTS, MERGED_GAP = 0.7, 1.6, 0.8
"""Boxes of one line: vertical overlap, ratio of heights, and gap, the first and last as shares of the lower
one's height. Columns of a table are further apart."""
AHEAD = 4
"""Pictures per thread that are held in memory at once."""


@dataclass(frozen=True)
class Line:
    """One piece of text as it was found."""

    box: tuple[int, int, int, int]
    """x0, y0, x1, y1 in pixels of the picture."""
    text: str
    confidence: float


@dataclass(frozen=True)
class Page:
    """All text of one picture, in reading order."""

    lines: tuple[tuple[Line, ...], ...]
    """Lines from top to bottom, pieces of a line from left to right."""

    @property
    def text(self) -> str:
        return "\n".join(" ".join(piece.text for piece in line) for line in self.lines)

    @property
    def pieces(self) -> tuple[Line, ...]:
        return tuple(piece for line in self.lines for piece in line)

    def facts(self) -> dict[str, str]:
        """What other answers may rest on."""
        boxes = [[*piece.box, piece.text, piece.confidence] for piece in self.pieces]
        return {OCR_TEXT: self.text, OCR_BOXES: json.dumps(boxes, ensure_ascii=False)}


def ask_ocr(sample: AnnotationInput, page: Page, config: OcrConfig, *, seed: int) -> Proposed:
    """A question for the whole text of a picture."""
    wording = int(share(seed, "ocr", sample.key) * len(config.questions))
    lowest = min(piece.confidence for piece in page.pieces)
    turn = Turn(config.questions[wording], page.text)
    return Proposed(turn, "ocr", f"{len(page.pieces)} pieces, confidence {lowest:.3f} or more")


def judge_page(page: Page, config: OcrConfig) -> Reason | None:
    """Whether a picture has text that was read for certain: `no_text`, `low_confidence`, `long_text`."""
    if len("".join(page.text.split())) < config.min_chars:
        return Reason("no_text")
    worst = min(page.pieces, key=lambda piece: piece.confidence)
    if worst.confidence < config.min_confidence:
        return Reason("low_confidence", evidence=f"{worst.text[:80]} ({worst.confidence:.2f})")
    if len(page.text) > config.max_chars:
        return Reason("long_text", evidence=f"{len(page.text)} characters")
    return None


def read_pages(
    samples: Sequence[AnnotationInput], config: OcrConfig, *, cache: Path, threads: int
) -> list[Page | Reason]:
    """The text of each sample's picture, or why there is none (`no_image`, `bad_image`, `unreadable`).

    Args:
        samples: Their pictures are fetched one after the other, a few at a time: the source's own, at most
            `max_side` pixels long.
        config: Limits; only `max_side` and `noise_confidence` change what is read.
        cache: Journal of what was read before, by content.
        threads: Pictures read at once.
    """
    known: dict[str, Page | Reason] = {}

    def take(record: dict[str, Any]) -> None:
        known[record["key"]] = _from_record(record)

    found: list[str | Reason] = []
    with (
        Journal(cache, take) as journal,
        Bar("read text", total=len(samples), unit="picture") as bar,
        ThreadPoolExecutor(threads) as pool,
    ):
        engines = local()
        under_way: dict[str, Future[Page | Reason]] = {}

        def finish(number: int) -> None:
            """Keep the oldest until only `number` are under way."""
            while len(under_way) > number:
                key = next(iter(under_way))
                journal.append({"key": key, **_to_record(under_way.pop(key).result())})

        for sample in samples:
            image = sample.view(config.max_side)
            if isinstance(image, bytes):
                key = _digest(image, config)
                found.append(key)
                if key not in known and key not in under_way:
                    under_way[key] = pool.submit(_read, engines, image, config)
            else:
                found.append(image or Reason("no_image"))
            finish(AHEAD * threads)
            bar.advance()
        finish(0)
    return [each if isinstance(each, Reason) else known[each] for each in found]


def read_page(engine: Any, image: bytes, config: OcrConfig) -> Page | Reason:
    """Read one encoded picture: upright, in RGB, at most `max_side` pixels long."""
    try:
        picture = _on_white(ImageOps.exif_transpose(Image.open(io.BytesIO(image))))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return Reason("bad_image", evidence=str(error)[:200])
    scale = min(1.0, config.max_side / max(picture.size))
    if scale < 1:
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    lines = _recognize(engine, np.ascontiguousarray(np.asarray(picture)[:, :, ::-1]), config, scale)
    return Page(tuple(in_reading_order(lines)))


def _on_white(picture: Image.Image) -> Image.Image:
    """In RGB; what is transparent shows white paper, not the colour that happens to lie under it."""
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    paper = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(paper, picture.convert("RGBA")).convert("RGB")


def in_reading_order(pieces: Sequence[Line]) -> Iterator[tuple[Line, ...]]:
    """Group pieces into lines from top to bottom, left to right inside a line.

    Pieces stand on one line when they overlap vertically by half of the lower one's height. Columns are
    not told apart: a page of two columns is read across.
    """
    line: list[Line] = []
    for piece in sorted(pieces, key=lambda each: (each.box[1] + each.box[3], each.box[0])):
        if line and not _on_line(piece, line):
            yield _from_left(line)
            line = []
        line.append(piece)
    if line:
        yield _from_left(line)


def merge_boxes(boxes: Boxes) -> Boxes:
    """Join level boxes that follow each other on a line; shape (n, 4, 2) → (m, 4, 2), corners clockwise.

    The detector cuts lines of large letters into words whose boxes overlap; read one by one, they give the
    letters at the seams twice and halve the accuracy (character errors without spaces 1.1% → 0.55%).
    """
    merged: list[list[float]] = []
    kept: list[Boxes] = []
    for box in sorted(boxes, key=lambda corners: float(corners[:, 0].min())):
        (left, top), (right, bottom) = box.min(axis=0), box.max(axis=0)
        height = bottom - top
        if abs(box[0, 1] - box[1, 1]) > LEVEL * height:
            kept.append(box)
            continue
        for other in merged:
            low, high = sorted((height, other[3] - other[1]))
            overlap = min(bottom, other[3]) - max(top, other[1])
            if (
                overlap > MERGED_OVERLAP * low
                and high < MERGED_HEIGHTS * low
                and left - other[2] < MERGED_GAP * low
            ):
                other[:] = (
                    min(left, other[0]),
                    min(top, other[1]),
                    max(right, other[2]),
                    max(bottom, other[3]),
                )
                break
        else:
            merged.append([left, top, right, bottom])
    rectangles = [[[x0, y0], [x1, y0], [x1, y1], [x0, y1]] for x0, y0, x1, y1 in merged]
    return np.array([*kept, *np.array(rectangles).reshape(-1, 4, 2)], dtype=np.float32)


def load_engine() -> Any:
    """The packaged model, in one thread."""
    from rapidocr_onnxruntime import RapidOCR

    return RapidOCR(intra_op_num_threads=1, inter_op_num_threads=1)


def _read(engines: local, image: bytes, config: OcrConfig) -> Page | Reason:
    if not hasattr(engines, "engine"):
        engines.engine = load_engine()
    return read_page(engines.engine, image, config)


def _recognize(engine: Any, pixels: Any, config: OcrConfig, scale: float) -> list[Line]:
    """The engine's own steps, one by one, for the columns in which it saw each character: it keeps them to
    itself. Its classifier of upside-down text is left out: pictures are upright.

    Args:
        engine: As `load_engine` gives it.
        pixels: BGR, shape (height, width, 3).
        config: What counts as noise.
        scale: By which the picture was made smaller.
    """
    resized, down_y, down_x = engine.preprocess(pixels)
    padded, record = engine.maybe_add_letterbox(
        resized, {"preprocess": {"ratio_h": down_y, "ratio_w": down_x}}
    )
    # It brings the shorter side up to 736 pixels whatever the longer one becomes: a line of text of 300×70
    # would be looked at with 3154×736, in seven times the time and with its words cut apart.
    short, long = sorted(padded.shape[:2])
    engine.text_det.limit_side_len = min(DETECTED_SHORT, DETECTED_LONG * short / long)
    boxes, _ = engine.auto_text_det(padded)
    if boxes is None:
        return []
    boxes = merge_boxes(np.asarray(boxes))
    crops = engine.get_crop_img_list(padded, list(boxes))
    found, _ = engine.text_rec(crops, return_word_box=True)
    height, width = pixels.shape[:2]
    corners = engine._get_origin_points(boxes, record, height, width)
    lines = []
    for (text, confidence, columns), crop, box in zip(found, crops, corners, strict=True):
        if text.strip() and confidence >= config.noise_confidence:
            cell = crop.shape[1] / columns[0]
            centres = [(column + 0.5) * cell for word in columns[2] for column in word]
            lines.append(_line(box, restore_spaces(text, centres, crop), float(confidence), scale))
    return lines


def _line(corners: Any, text: str, confidence: float, scale: float) -> Line:
    left, top = (corners.min(axis=0) / scale).round()
    right, bottom = (corners.max(axis=0) / scale).round()
    box = (int(left), int(top), int(right), int(bottom))
    return Line(box, " ".join(text.split()), round(confidence, 4))


def _on_line(piece: Line, line: Sequence[Line]) -> bool:
    """Whether a piece overlaps the last piece of the line enough."""
    _, top, _, bottom = piece.box
    _, other_top, _, other_bottom = line[-1].box
    overlap = min(bottom, other_bottom) - max(top, other_top)
    return overlap > SAME_LINE * max(1, min(bottom - top, other_bottom - other_top))


def _from_left(line: Sequence[Line]) -> tuple[Line, ...]:
    return tuple(sorted(line, key=lambda piece: (piece.box[0], piece.box[1])))


def _digest(image: bytes, config: OcrConfig) -> str:
    how = f"{config.max_side} {config.noise_confidence} ".encode()
    return hashlib.sha256(how + image).hexdigest()


def _to_record(read: Page | Reason) -> dict[str, Any]:
    if isinstance(read, Reason):
        return {"reason": asdict(read)}
    return {"lines": [[asdict(piece) for piece in line] for line in read.lines]}


def _from_record(record: dict[str, Any]) -> Page | Reason:
    if "reason" in record:
        return Reason(**record["reason"])
    lines = [
        tuple(Line(tuple(piece["box"]), piece["text"], piece["confidence"]) for piece in line)
        for line in record["lines"]
    ]
    return Page(tuple(lines))
