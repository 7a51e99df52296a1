"""Countries with their facts and flags: npm `world-countries` and npm `flag-icons` put together.

flag-icons draws a flag twice, four by three and square. Some flags are one drawing under several codes
(France and its territories), others cannot be told apart (Indonesia and Monaco): those are look-alikes,
found by comparing pixels.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from components.curate.archives import members
from components.curate.sources.geography.colours import COLOURS, absent, measure_colours, present
from components.curate.sources.vector.rasterize import rasterize
from components.errors import SourceError

COUNTRIES = "package/countries.json"
FLAG = re.compile(r"package/flags/(4x3|1x1)/([a-z]{2})\.svg")
SIDE = 32
"""Pixels of the drawings that colours and likeness are judged on."""
VISIBLE, ALIKE = 64, 0.04
"""A pixel looks different when a channel differs by more than `VISIBLE` of 255. Flags look alike when at
most this share of their pixels does: Chad and Romania, Indonesia and Monaco, but not Mexico and Italy."""


@dataclass(frozen=True)
class Drawing:
    """One drawing of a flag."""

    svg: str
    height: float
    """Of the flag, as a share of the square that it is drawn in."""
    colours: tuple[str, ...]
    no_colours: tuple[str, ...]
    """Colours that it surely does not show; what is in neither list is not decided."""
    main_colour: str
    """Covers most of it by far; empty where none does."""


@dataclass(frozen=True)
class Country:
    code: str
    name: str
    capital: str
    """Empty where there is none, or more than one."""
    continent: str
    independent: bool
    drawings: Mapping[str, Drawing]
    """Shape (`4x3`, `1x1`) → drawing."""
    looks_like: str
    """Smallest code among the countries with the same-looking flag: its own, if no other's comes before."""


def read_countries(facts: Path, flags: Path) -> list[Country]:
    """All countries that both packages know, by code.

    Raises:
        SourceError: a package is not what it should be.
    """
    listed = next((content for name, content in members(facts) if name == COUNTRIES), None)
    svgs = {
        (hit.group(2), hit.group(1)): content.decode()
        for name, content in members(flags)
        if (hit := FLAG.fullmatch(name))
    }
    if listed is None or not svgs:
        raise SourceError(
            "countries.json or the flags are missing",
            where=str(facts if listed is None else flags),
            fix="take npm:world-countries, and npm:flag-icons as options.flags",
        )
    entries = sorted(json.loads(listed), key=lambda entry: str(entry["cca2"]))
    entries = [each for each in entries if (each["cca2"].lower(), "4x3") in svgs]
    pictures = {key: rasterize(svg, SIDE) for key, svg in svgs.items()}
    codes = [each["cca2"].lower() for each in entries]
    alike = _look_alikes(codes, [pictures[code, "4x3"] for code in codes])
    return [
        Country(
            code=code,
            name=entry["name"]["common"],
            capital=entry["capital"][0] if len(entry.get("capital", [])) == 1 else "",
            continent=entry["region"],
            independent=bool(entry.get("independent")),
            drawings={
                shape: _describe(svgs[code, shape], shape, pictures[code, shape])
                for shape in ("4x3", "1x1")
                if (code, shape) in svgs
            },
            looks_like=alike[code],
        )
        for code, entry in zip(codes, entries, strict=True)
    ]


def _describe(svg: str, shape: str, picture: Image.Image) -> Drawing:
    height = 0.75 if shape == "4x3" else 1.0
    margin = round(SIDE * (1 - height) / 2)
    shares = measure_colours(picture.crop((0, margin, SIDE, SIDE - margin)))
    ranked = sorted(COLOURS, key=lambda colour: shares[colour][0], reverse=True)
    clear = shares[ranked[0]][0] > 0.4 and shares[ranked[1]][1] < 0.7 * shares[ranked[0]][0]
    return Drawing(
        svg=svg,
        height=height,
        colours=tuple(colour for colour in COLOURS if present(shares[colour])),
        no_colours=tuple(colour for colour in COLOURS if absent(shares[colour])),
        main_colour=ranked[0] if clear else "",
    )


def _look_alikes(codes: Sequence[str], pictures: Sequence[Image.Image]) -> dict[str, str]:
    """Code → the smallest code among flags that look the same."""
    from scipy.sparse.csgraph import connected_components  # a third of a second, only for flags

    margin = SIDE // 8
    pixels_N3HW = np.stack(
        [np.asarray(each, dtype=np.int16)[margin:-margin].transpose(2, 0, 1) for each in pictures]
    )
    near_NN = np.array(
        [
            (np.abs(pixels_N3HW - flag_3HW).max(axis=1) > VISIBLE).mean(axis=(1, 2)) <= ALIKE
            for flag_3HW in pixels_N3HW
        ]
    )
    _, numbers_N = connected_components(near_NN, directed=False)
    first: dict[int, str] = {}
    for code, number in zip(codes, numbers_N.tolist(), strict=True):
        first[number] = min(code, first.get(number, code))
    return {code: first[number] for code, number in zip(codes, numbers_N.tolist(), strict=True)}
