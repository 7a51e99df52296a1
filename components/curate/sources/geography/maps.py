"""Maps with coloured regions (Debian's `kgeography-data`): where things are, which is larger, how many.

One to three regions of a real map are painted in strong colours, everything else is pale. What is asked can
be seen, so that whole maps, with all other maps of the same country, are held out as `unseen_maps`. With
`knowledge` the regions' names, capitals and the map's name are asked too: of held-out maps that is fair only
for a model that learnt geography elsewhere.

A place is one of nine words (`top left`, `centre`, …). A box is `left top right bottom` in whole
`box_units`-ths of the square picture, 0 at its top left corner; 0 units: no boxes are asked for.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from components.config import CurateConfig, SourceConfig
from components.curate.samples import Draft, Turn, share
from components.curate.sources.geography.atlas import Map, Region, flatten, read_maps
from components.curate.sources.planning import coin, option, pick, split_of
from components.curate.sources.reader import Reader, Share

PAINTS = {
    "red": (220, 30, 35),
    "blue": (30, 80, 220),
    "green": (25, 145, 50),
    "orange": (255, 145, 0),
    "purple": (135, 45, 175),
}
LAND, OUTSIDE = (240, 236, 222), (204, 204, 204)
TONES = {"land": LAND, "lines": (150, 150, 150), "waters": (208, 224, 238)}
"""What is not painted; where a colour is listed twice, the later one counts."""
PLACES = ("top left", "top", "top right", "left", "centre", "right", "bottom left", "bottom", "bottom right")
CLEAR = 0.03
"""Distance, as a share of the side, that a middle keeps from the borders between places."""
APART = 0.10
"""Distance of two middles from which on one lies left of the other, or above it."""
LARGER = 1.5
"""Ratio of two areas from which on one is called larger."""
WORDINGS = {
    "count": ("How many regions are coloured?", "How many regions are highlighted?"),
    "where": ("Where is the {} region?", "In which part of the picture is the {} region?"),
    "larger": ("Which region is larger, the {} or the {} one?", "Which is larger: {} or {}?"),
    "left": ("Is the {} region left of the {} region?", "Is {} further left than {}?"),
    "above": ("Is the {} region above the {} region?", "Is {} higher up than {}?"),
    "box": ("Give the box of the {} region in {}.", "Box of the {} region, in {}?"),
    "name": ("What is the name of the {} region?", "Which region is {}?"),
    "capital": ("What is the capital of the {} region?",),
    "map": ("What does this map show?", "Which part of the world is this?"),
}


@dataclass(frozen=True)
class Painted:
    """A region and the paint it gets."""

    region: Region
    paint: str

    @property
    def place(self) -> str:
        """Where it is, in a word; empty where it lies between places."""
        x, y = self.region.middle
        left, top, right, bottom = self.region.box
        for at in (x, y):
            if min(abs(at - 1 / 3), abs(at - 2 / 3)) < CLEAR:
                return ""
        place, of_box = (
            3 * int(v * 3) + int(u * 3) for u, v in ((x, y), ((left + right) / 2, (top + bottom) / 2))
        )
        return PLACES[place] if place == of_box else ""

    def box(self, units: int) -> str:
        left, top, right, bottom = (round(edge * units) for edge in self.region.box)
        return f"{left} {top} {max(right, left + 1)} {max(bottom, top + 1)}"


def plan(archives: Mapping[str, Path], source: SourceConfig, config: CurateConfig) -> list[Draft]:
    """`per_map` different paintings of every map that has regions large enough to be seen.

    Raises:
        SourceError: the package holds no maps.
    """
    least = option(source, "min_area", 0.008)
    drafts = []
    for each in read_maps(archives["data"]):
        large = [region for region in each.regions if region.area >= least]
        generator = random.Random(f"{config.seed}/maps/{each.file}")
        done = set()
        for number in range(option(source, "per_map", 20) if len(large) > 1 else 0):
            count = generator.randint(1, min(3, len(large)))
            chosen = generator.sample(large, count)
            paints = generator.sample(list(PAINTS), count)
            combination = frozenset(zip((region.name for region in chosen), paints, strict=True))
            if combination in done:
                continue
            done.add(combination)
            painted = [Painted(*pair) for pair in zip(chosen, paints, strict=True)]
            drafts.append(_draft(each, painted, number, source, config.seed))
    return drafts


def _draft(shown: Map, painted: Sequence[Painted], number: int, source: SourceConfig, seed: int) -> Draft:
    key = f"{shown.file.removesuffix('.kgm')}/{number}"
    units = option(source, "box_units", 100)
    split = split_of(
        seed,
        "maps",
        shown.family,
        unseen=option(source, "unseen_maps", 0.15),
        validation=option(source, "validation", 0.05),
    )
    turns = [*_seen(painted, units, seed, key)]
    if option(source, "knowledge", False):
        turns += _known(shown, painted, seed, key)
    facts = {"map": shown.name, "regions coloured": str(len(painted))}
    for each in painted:
        facts[each.paint] = each.region.name
        facts[f"{each.paint}, place"] = each.place
        facts[f"{each.paint}, area"] = f"{each.region.area:.4f}"
        facts[f"{each.paint}, middle"] = " ".join(f"{at:.3f}" for at in each.region.middle)
        facts[f"{each.paint}, box"] = each.box(units or 100)
    return Draft(
        original_id=key,
        split=split,
        group="unseen_maps" if split == "test" else "",
        turns=tuple(turns),
        payload={
            "picture": shown.picture,
            "land": [region.colour for region in shown.regions],
            "lines": list(shown.lines),
            "waters": list(shown.waters),
            "painted": {each.region.colour: each.paint for each in painted},
        },
        label=shown.name,
        facts=facts,
    )


def _seen(painted: Sequence[Painted], units: int, seed: int, key: str) -> Iterator[Turn]:
    """What the picture answers, at most one question of a kind."""
    yield Turn(pick(WORDINGS["count"], seed, "count", key), str(len(painted)))
    placed = [each for each in painted if each.place]
    if placed:
        one = pick(placed, seed, "placed", key)
        yield Turn(pick(WORDINGS["where"], seed, "where", key).format(one.paint), one.place)
    pairs = sorted(
        combinations(painted, 2), key=lambda pair: share(seed, "pair", key, *(e.paint for e in pair))
    )
    yield from _larger(pairs, seed, key)
    yield from _beside(pairs, seed, key)
    if units:
        boxed = pick(painted, seed, "boxed", key)
        scale = {10: "tenths", 100: "hundredths"}.get(units, f"{units}ths")
        yield Turn(pick(WORDINGS["box"], seed, "box", key).format(boxed.paint, scale), boxed.box(units))


def _larger(pairs: Sequence[tuple[Painted, Painted]], seed: int, key: str) -> Iterator[Turn]:
    for one, other in pairs:
        small, large = sorted((one, other), key=lambda each: each.region.area)
        if large.region.area >= LARGER * small.region.area:
            first, second = (one, other) if coin(seed, "larger order", key) else (other, one)
            question = pick(WORDINGS["larger"], seed, "larger", key)
            yield Turn(question.format(first.paint, second.paint), large.paint)
            return


def _beside(pairs: Sequence[tuple[Painted, Painted]], seed: int, key: str) -> Iterator[Turn]:
    """Left of, or above: the order of the two is a coin's, so that yes is as likely as no."""
    axis = int(coin(seed, "axis", key))
    for one, other in pairs:
        first, second = (one, other) if coin(seed, "beside order", key) else (other, one)
        ahead = second.region.middle[axis] - first.region.middle[axis]
        if abs(ahead) >= APART:
            question = pick(WORDINGS["above" if axis else "left"], seed, "beside", key)
            yield Turn(question.format(first.paint, second.paint), "yes" if ahead > 0 else "no")
            return


def _known(shown: Map, painted: Sequence[Painted], seed: int, key: str) -> Iterator[Turn]:
    one = pick(painted, seed, "known", key)
    yield Turn(pick(WORDINGS["name"], seed, "name", key).format(one.paint), one.region.name)
    if one.region.capital:
        yield Turn(WORDINGS["capital"][0].format(one.paint), one.region.capital)
    yield Turn(pick(WORDINGS["map"], seed, "map", key), shown.name)


def render(payload: dict[str, Any], size: int) -> Image.Image:
    """The map, painted, padded to a square.

    Raises:
        OSError, ValueError: the map's picture cannot be decoded.
    """
    pale = tuple((tuple(payload[what]), tone) for what, tone in TONES.items())
    numbers, labels_SS, base_SS3 = _draw_pale(payload["picture"], pale, size)
    image_SS3 = base_SS3.copy()
    for colour, paint in payload["painted"].items():
        # Shrinking is linear: what the paint changes is added to the small picture of the pale map.
        inside_SS1 = _shrink((labels_SS == numbers[colour]).astype(np.uint8) * 255, size)[..., None] / 255
        image_SS3 += inside_SS1 * (np.array(PAINTS[paint]) - np.array(LAND))
    return Image.fromarray(np.clip(np.rint(image_SS3), 0, 255).astype(np.uint8))


@lru_cache(maxsize=16)
def _draw_pale(
    picture: bytes, pale: tuple[tuple[tuple[int, ...], tuple[int, int, int]], ...], size: int
) -> tuple[dict[int, int], npt.NDArray[np.int32], npt.NDArray[np.float64]]:
    """Number of each colour, the number at every pixel of the square, and the unpainted map at `size`.

    Paintings of a map come in a row.
    """
    values, labels_HW = flatten(picture)
    tones = {colour: tone for colours, tone in pale for colour in colours}
    palette = np.array([*(tones.get(value, OUTSIDE) for value in values.tolist()), OUTSIDE], dtype=np.uint8)
    height, width = labels_HW.shape
    side = max(height, width)
    labels_SS = np.full((side, side), len(values), dtype=np.int32)
    top, left = (side - height) // 2, (side - width) // 2
    labels_SS[top : top + height, left : left + width] = labels_HW
    numbers = {value: number for number, value in enumerate(values.tolist())}
    return numbers, labels_SS, _shrink(palette[labels_SS], size)


def _shrink(pixels: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.float64]:
    method = Image.Resampling.BOX if len(pixels) > size else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(pixels).resize((size, size), method), dtype=np.float64)


READER = Reader(
    plan,
    render,
    options={
        "per_map": int,
        "min_area": Share,
        "box_units": int,
        "knowledge": bool,
        "unseen_maps": Share,
        "validation": Share,
    },
)
