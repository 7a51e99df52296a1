"""Maps of Debian's `kgeography-data`: pictures whose regions are flat colours, and the regions' names.

A `.kgm` file lists the colours of a map: of its regions, and of what is none (frontiers, water, neighbours).
Maps of one country in different divisions belong together; so do maps that name the same regions.
"""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from components.curate.archives import members
from components.errors import SourceError

ROOT = "usr/share/kgeography/"
MAX_BYTES = 1 << 20
MAX_SIDE = 4096
MIN_WORD = 4
"""Letters of a word that can tie two maps together by their names."""
SHARED = 0.3
"""Two maps belong together when they share this part of the names of the one with fewer."""


@dataclass(frozen=True)
class Region:
    """A named region; places are shares of the side of the square that the map is padded to."""

    name: str
    capital: str
    colour: int
    """Red, green, blue as one number."""
    area: float
    """Share of the square."""
    middle: tuple[float, float]
    """Of its pixels."""
    box: tuple[float, float, float, float]
    """Left, top, right, bottom."""


@dataclass(frozen=True)
class Map:
    file: str
    name: str
    division: str
    """What its regions are: `Provinces`; empty where the map does not say."""
    picture: bytes
    regions: tuple[Region, ...]
    lines: tuple[int, ...]
    """Colours of frontiers."""
    waters: tuple[int, ...]
    family: str
    """File of the first map that it belongs together with."""


def read_maps(package: Path) -> list[Map]:
    """All maps, by file.

    Raises:
        SourceError: the package holds none.
    """
    files = {
        name.removeprefix(ROOT): content
        for name, content in members(package)
        if name.startswith(ROOT) and name.endswith((".kgm", ".png")) and name.count("/") == ROOT.count("/")
    }
    maps = [found for name in sorted(files) if name.endswith(".kgm") and (found := _read(name, files))]
    if not maps:
        raise SourceError("no maps in it", where=str(package), fix="take Debian's kgeography-data")
    return _tie(maps)


def _read(name: str, files: Mapping[str, bytes]) -> Map | None:
    """One map; None where it is damaged or its picture is missing or too large."""
    try:
        root = ElementTree.fromstring(files[name])
        picture = files.get(_text(root, "mapFile"), b"")
        listed = [_division(each) for each in root.iter("division")]
        shown = [(each, colour) for each, colour in listed if _text(each, "ignore") != "yes"]
        regions = tuple(_measure(shown, picture))
    except (ElementTree.ParseError, OSError, ValueError):
        return None
    others = [
        (_text(each, "name").lower(), colour) for each, colour in listed if _text(each, "ignore") == "yes"
    ]
    return Map(
        file=name,
        name=_text(root, "name"),
        division=_text(root, "divisionsName"),
        picture=picture,
        regions=regions,
        lines=tuple(colour for what, colour in others if what in ("frontier", "border", "coast")),
        waters=tuple(
            colour for what, colour in others if "water" in what or "sea" in what or "ocean" in what
        ),
        family=name,
    )


def _text(element: ElementTree.Element, tag: str) -> str:
    return " ".join((element.findtext(tag) or "").split())


def _division(element: ElementTree.Element) -> tuple[ElementTree.Element, int]:
    """A division and its colour."""
    red, green, blue = (int(_text(element, f"color/{channel}")) for channel in ("red", "green", "blue"))
    return element, red << 16 | green << 8 | blue


def flatten(picture: bytes) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.intp]]:
    """The colours of a map's picture, each as one number, and for every pixel the place of its colour.

    Raises:
        OSError, ValueError: it is no picture, or one too large.
    """
    if len(picture) > MAX_BYTES:
        raise ValueError("too many bytes")
    image = Image.open(io.BytesIO(picture))
    if max(image.size) > MAX_SIDE:
        raise ValueError("too many pixels")
    if image.mode != "P":
        colours_HW = _pack(np.asarray(image.convert("RGB")))
        values, labels_N = np.unique(colours_HW, return_inverse=True)
        return values, labels_N.reshape(colours_HW.shape)
    palette = image.getpalette("RGB")
    values, places = np.unique(_pack(np.array(palette, dtype=np.uint8).reshape(-1, 3)), return_inverse=True)
    return values, places[np.asarray(image)]


def _pack(pixels_X3: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
    """Red, green and blue as one number."""
    wide_X3 = pixels_X3.astype(np.int32)
    packed_X: npt.NDArray[np.int32] = wide_X3[..., 0] << 16 | wide_X3[..., 1] << 8 | wide_X3[..., 2]
    return packed_X


def _measure(regions: Sequence[tuple[ElementTree.Element, int]], picture: bytes) -> Iterator[Region]:
    """Where each region lies; those that the picture does not show are left out."""
    from scipy import ndimage  # a third of a second, which only maps should cost

    values, labels_HW = flatten(picture)
    height, width = labels_HW.shape
    side = max(height, width)
    down, right = (side - height) / 2, (side - width) / 2
    boxes = ndimage.find_objects(labels_HW + 1, max_label=len(values))
    y_N, x_N = (each.ravel() + 0.5 for each in np.indices(labels_HW.shape, dtype=np.float32))
    labels_N = labels_HW.ravel()
    sizes, sums_y, sums_x = (np.bincount(labels_N, weights) for weights in (None, y_N, x_N))
    numbers = {value: number for number, value in enumerate(values.tolist())}
    times = Counter(colour for _, colour in regions)
    for element, colour in regions:
        number = numbers.get(colour)
        if number is None or times[colour] > 1 or boxes[number] is None:
            continue
        rows, columns = boxes[number]
        size = float(sizes[number])
        yield Region(
            name=_text(element, "name"),
            capital=_text(element, "capital"),
            colour=colour,
            area=size / side**2,
            middle=((sums_x[number] / size + right) / side, (sums_y[number] / size + down) / side),
            box=(
                (columns.start + right) / side,
                (rows.start + down) / side,
                (columns.stop + right) / side,
                (rows.stop + down) / side,
            ),
        )


def _tie(maps: Sequence[Map]) -> list[Map]:
    """Say which maps belong together: a rare word of the name in common, or regions."""
    words = [set(re.findall(rf"[^\W\d_]{{{MIN_WORD},}}", each.name.casefold())) for each in maps]
    usual = {word for word, times in Counter(word for each in words for word in each).items() if times > 3}
    kinds = {word for each in maps for word in each.division.casefold().split()}
    words = [each - usual - kinds for each in words]
    named = [{region.name.casefold() for region in each.regions} for each in maps]
    known = list(zip(words, named, strict=True))
    tied_NN = np.array(
        [
            [
                bool(one & two) or len(mine & theirs) > SHARED * min(len(mine), len(theirs))
                for two, theirs in known
            ]
            for one, mine in known
        ]
    )
    from scipy.sparse.csgraph import connected_components

    _, numbers = connected_components(tied_NN, directed=False)
    first: dict[int, str] = {}
    for each, number in zip(maps, numbers.tolist(), strict=True):
        first.setdefault(number, each.file)
    return [replace(each, family=first[number]) for each, number in zip(maps, numbers.tolist(), strict=True)]
