"""How well is text read? Rendered sentences of known content, ours against RapidOCR as it is packaged.

Same models (PP-OCRv4, in `rapidocr-onnxruntime`), same pictures, both in reading order as ours finds it.
Ours looks for text in a small picture's own size, reads a line as one where the detector cut it, and puts
spaces back from the gaps in the ink. The fonts are none that this was tuned on (DejaVu, Aileron). The
character error rate (CER) is edits per character over all pictures, its interval a bootstrap over pictures;
texts are compared with single spaces.

python -m benchmarks.ocr_accuracy [--quick]
"""

from __future__ import annotations

import importlib
import inspect
import io
import random
import re
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from benchmarks.harness import CONFIDENCE, RESAMPLES, quick, report
from components.config.annotate import OcrConfig
from components.curate.annotate.ocr import Line, Page, in_reading_order, judge_page, load_engine, read_page
from components.stage import hardware

FONTS = ("STIXGeneral", "STIXGeneralItalic", "STIXGeneralBol", "cmss10", "cmtt10")
SIZES = (12, 16, 24, 36)
"""Pixels."""
JPEG_QUALITY = 50
"""Of every second picture; the others are PNG."""
MODULES = (
    "argparse", "collections", "datetime", "decimal", "email", "fractions", "functools", "heapq", "logging",
    "pathlib", "pickle", "random", "shutil", "socket", "statistics", "subprocess", "threading", "zipfile",
)  # fmt: skip
SENTENCE = re.compile(r"[A-Z][A-Za-z0-9 ,()'-]{40,140}\.")


@dataclass(frozen=True)
class Drawn:
    """One picture and what is written in it."""

    image: bytes
    truth: str
    size: int


def draw(number: int) -> list[Drawn]:
    """Sentences of the standard library's own documentation, over all fonts and sizes."""
    noise = random.Random(0)
    sentences = _sentences()
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    drawn = []
    for index in range(number):
        size = SIZES[index % len(SIZES)]
        font = ImageFont.truetype(str(folder / f"{FONTS[index // len(SIZES) % len(FONTS)]}.ttf"), size)
        text = "\n".join(textwrap.wrap(noise.choice(sentences), 40))
        left, top, right, bottom = ImageDraw.Draw(Image.new("RGB", (1, 1))).multiline_textbbox(
            (0, 0), text, font
        )
        page = Image.new("RGB", (int(right - left) + 40, int(bottom - top) + 40), "white")
        ImageDraw.Draw(page).multiline_text((20 - left, 20 - top), text, fill="black", font=font)
        buffer = io.BytesIO()
        page.save(buffer, "JPEG" if noise.random() < 0.5 else "PNG", quality=JPEG_QUALITY)
        drawn.append(Drawn(buffer.getvalue(), text, size))
    return drawn


def _sentences() -> list[str]:
    found = set[str]()
    for name in MODULES:
        module = importlib.import_module(name)
        for _, member in inspect.getmembers(module, lambda each: inspect.isclass(each) or callable(each)):
            found |= set(SENTENCE.findall(" ".join((inspect.getdoc(member) or "").split())))
    return sorted(found)


def edits(one: str, other: str) -> int:
    """Levenshtein distance."""
    row = list(range(len(other) + 1))
    for n, a in enumerate(one, 1):
        above, row[0] = row[0], n
        for m, b in enumerate(other, 1):
            above, row[m] = row[m], min(row[m] + 1, row[m - 1] + 1, above + (a != b))
    return row[-1]


def measure(drawn: Sequence[Drawn], read: Callable[[bytes], Page]) -> dict[str, Any]:
    """CER with its interval: of all, of what annotation would keep, without spaces, by size."""
    begin = time.perf_counter()
    pages = [read(each.image) for each in drawn]
    seconds = time.perf_counter() - begin
    truths = [" ".join(each.truth.split()) for each in drawn]
    texts = [" ".join(page.text.split()) for page in pages]
    kept = np.array([judge_page(page, OcrConfig()) is None for page in pages])
    sizes = np.array([each.size for each in drawn])
    wrong = np.array([edits(*pair) for pair in zip(texts, truths, strict=True)])
    length = np.array([len(truth) for truth in truths])
    bare = np.array(
        [edits(a.replace(" ", ""), b.replace(" ", "")) for a, b in zip(texts, truths, strict=True)]
    )
    return {
        "cer": _rate(wrong, length),
        "cer_of_kept": _rate(wrong[kept], length[kept]) | {"kept": int(kept.sum())},
        "cer_without_spaces": _rate(bare, np.array([len(truth.replace(" ", "")) for truth in truths])),
        "cer_by_size": {int(size): _rate(wrong[sizes == size], length[sizes == size]) for size in SIZES},
        "pictures_per_s": round(len(drawn) / seconds, 2),
    }


def _rate(wrong: npt.NDArray[np.int64], length: npt.NDArray[np.int64]) -> dict[str, Any]:
    if not len(wrong):
        return {"value": None, "interval": None}
    picks = np.random.default_rng(0).integers(0, len(wrong), (RESAMPLES, len(wrong)))
    rates = wrong[picks].sum(axis=1) / length[picks].sum(axis=1)
    tail = (1 - CONFIDENCE) / 2
    interval = [round(float(np.quantile(rates, each)), 5) for each in (tail, 1 - tail)]
    return {"value": round(float(wrong.sum() / length.sum()), 5), "interval": interval}


def main() -> None:
    """Read the same pictures twice."""
    drawn = draw(20 if quick(__doc__ or "") else 200)
    config, engine = OcrConfig(), load_engine()

    def ours(image: bytes) -> Page:
        page = read_page(engine, image, config)
        assert isinstance(page, Page)
        return page

    packaged = load_engine()

    def theirs(image: bytes) -> Page:
        found, _ = packaged(image)
        lines = [
            Line((int(min(xs)), int(min(ys)), int(max(xs)), int(max(ys))), text, float(confidence))
            for corners, text, confidence in found or ()
            for xs, ys in [zip(*corners, strict=True)]
        ]
        return Page(tuple(in_reading_order(lines)))

    peer = f"RapidOCR {version('rapidocr-onnxruntime')}"
    results = {"ours": measure(drawn, ours), peer: measure(drawn, theirs)}
    report(
        {
            "name": "ocr_accuracy",
            "claim": "rendered text is read with at most a third of the packaged model's character errors",
            "unit": "character error rate",
            "ours": results["ours"]["cer"]["value"],
            "peers": {peer: results[peer]["cer"]["value"]},
            "floor": None,
            "ratios": {peer: results[peer]["cer"]["value"] / max(results["ours"]["cer"]["value"], 1e-9)},
            "error_rate_intervals": {who: each["cer"]["interval"] for who, each in results.items()},
            "pictures": len(drawn),
            "results": results,
            "versions": {
                name: version(name) for name in ("rapidocr-onnxruntime", "onnxruntime", "matplotlib")
            },
            "machine": hardware(),
        }
    )


if __name__ == "__main__":
    main()
