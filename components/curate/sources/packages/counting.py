"""Counting: copies of one or two emoji of a vendor, scattered over a picture (npm `@iconify-json/<vendor>`).

The two kinds in a picture come from different subgroups, so that they can be told apart. Concepts are
divided before pictures are composed: those of test (`unseen_concept`) and of validation are counted in no
training picture. All pictures of a held-out vendor are the test group `unseen_vendor`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from components.config import CurateConfig, SourceConfig
from components.curate.samples import Draft, Split, Turn, share
from components.curate.sources.packages.icons import Concept, read_concepts, read_icons
from components.curate.sources.planning import option, pick, split_of
from components.curate.sources.reader import Reader, Share
from components.curate.sources.vector.rasterize import rasterize

COLUMNS = 3
"""Copies lie in the cells of a grid of 3 × 3; at 64 pixels one has 20."""
MAX_COUNT = 5
ICON_SHARE, JITTER = 0.88, 0.06
"""Side of a copy, and how far it may lie from the middle of its cell, as shares of the cell."""
WORDINGS = {
    "count": (
        "How many times is this shown: {}?",
        "Count the pictures of: {}.",
        "How often does this appear: {}?",
    ),
    "total": ("How many pictures are there in all?", "Count all pictures."),
    "more": ("Which appears more often, {} or {}?", "What is shown more often: {} or {}?"),
}


def plan(archives: Mapping[str, Path], source: SourceConfig, config: CurateConfig) -> list[Draft]:
    """Compose `train`, `validation` and `test` pictures from concepts of the split's own.

    Raises:
        ConfigError: `options.groups` names a group that emojibase does not have.
        SourceError: one of the packages is not what it should be.
    """
    held_out = option(source, "held_out", False)
    icons = read_icons(archives["data"])
    concepts = read_concepts(archives["labels"], source)
    found = icons.find(concepts)
    pools = _divide([each for each in concepts if each.hexcode in found], source, config.seed)
    drafts = []
    for split, pool in pools.items():
        generator = random.Random(f"{config.seed}/counting/{icons.prefix}/{split}")
        for number in range(_wanted(source, split) if len({each.subgroup for each in pool}) > 1 else 0):
            counted = _count(pool, generator)
            key = f"{icons.prefix}/{split}/{number}"
            drafts.append(
                Draft(
                    original_id=f"{split}/{number}/{'+'.join(found[each.hexcode] for each in counted)}",
                    split=split,
                    group=("unseen_vendor" if held_out else "unseen_concept") if split == "test" else "",
                    turns=tuple(_ask(counted, config.seed, key)),
                    payload={
                        "svgs": [icons.svg(found[each.hexcode]) for each in counted],
                        "copies": _scatter(list(counted.values()), generator),
                    },
                    label=next(iter(counted)).group,
                    facts={each.label: str(count) for each, count in counted.items()}
                    | {"total": str(sum(counted.values())), "vendor": icons.prefix},
                )
            )
    return drafts


def _wanted(source: SourceConfig, split: Split) -> int:
    """How many pictures of a split; a held-out vendor has only test pictures."""
    if option(source, "held_out", False) and split != "test":
        return 0
    return option(source, split, {"train": 1000, "validation": 50, "test": 100}[split])


def _divide(concepts: Sequence[Concept], source: SourceConfig, seed: int) -> dict[Split, list[Concept]]:
    """Split → its concepts. `unseen_concepts` decides as it does for the reader of emoji."""
    unseen, validation = option(source, "unseen_concepts", 0.1), option(source, "validation_concepts", 0.1)
    pools: dict[Split, list[Concept]] = {"train": [], "validation": [], "test": []}
    for concept in concepts:
        if option(source, "held_out", False):
            if share(seed, "concept", concept.hexcode) >= unseen:
                pools["test"].append(concept)
        else:
            split = split_of(seed, "concept", concept.hexcode, unseen=unseen, validation=validation)
            pools[split].append(concept)
    return pools


def _count(pool: Sequence[Concept], generator: random.Random) -> dict[Concept, int]:
    """What is counted, and how many of it: one kind in two of five pictures, else two kinds."""
    first = generator.choice(pool)
    counted = {first: generator.randint(1, MAX_COUNT)}
    if generator.random() < 0.6:
        others = [each for each in pool if each.subgroup != first.subgroup and each.label != first.label]
        counted[generator.choice(others)] = generator.randint(1, MAX_COUNT - 1)
    return counted


def _ask(counted: Mapping[Concept, int], seed: int, key: str) -> list[Turn]:
    turns = [
        Turn(pick(WORDINGS["count"], seed, "count", key, each.label).format(each.label), str(count))
        for each, count in counted.items()
    ]
    if len(counted) == 2:
        turns.append(Turn(pick(WORDINGS["total"], seed, "total", key), str(sum(counted.values()))))
        one, other = sorted(counted, key=lambda each: share(seed, "order", key, each.label))
        if counted[one] != counted[other]:
            more = one if counted[one] > counted[other] else other
            question = pick(WORDINGS["more"], seed, "more", key).format(one.label, other.label)
            turns.append(Turn(question, more.label))
    return turns


def _scatter(counts: Sequence[int], generator: random.Random) -> list[tuple[int, float, float]]:
    """Which drawing lies where: number of the SVG, and the copy's middle as shares of the side."""
    cells = generator.sample(range(COLUMNS * COLUMNS), sum(counts))
    copies: list[tuple[int, float, float]] = []
    for which in (which for which, count in enumerate(counts) for _ in range(count)):
        row, column = divmod(cells[len(copies)], COLUMNS)
        x, y = (place + 0.5 + generator.uniform(-JITTER, JITTER) for place in (column, row))
        copies.append((which, x / COLUMNS, y / COLUMNS))
    return copies


def render(payload: dict[str, Any], size: int) -> Image.Image:
    """Every copy in its place, on white."""
    side = round(size / COLUMNS * ICON_SHARE)
    icons = [rasterize(svg, side) for svg in payload["svgs"]]
    page = Image.new("RGB", (size, size), "white")
    for which, x, y in payload["copies"]:
        page.paste(icons[which], (round(x * size - side / 2), round(y * size - side / 2)))
    return page


READER = Reader(
    plan,
    render,
    options={
        "labels": str,
        "groups": list,
        "held_out": bool,
        "unseen_concepts": Share,
        "validation_concepts": Share,
        "train": int,
        "validation": int,
        "test": int,
    },
    locators=("labels",),
)
