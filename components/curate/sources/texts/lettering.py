"""Text drawn as a picture, in the fonts that Python packages carry: matplotlib's and Pillow's own.

Never a font of the machine: the same text must give the same pixels everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

FAMILIES = {
    "Aileron": ("",),
    "Computer Modern": ("cmr10.ttf", "cmb10.ttf", "cmss10.ttf", "cmtt10.ttf"),
    "DejaVu Sans": ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSans-Oblique.ttf"),
    "DejaVu Sans Mono": ("DejaVuSansMono.ttf", "DejaVuSansMono-Bold.ttf"),
    "DejaVu Serif": ("DejaVuSerif.ttf", "DejaVuSerif-Bold.ttf", "DejaVuSerif-Italic.ttf"),
    "STIX": ("STIXGeneral.ttf", "STIXGeneralBol.ttf", "STIXGeneralItalic.ttf"),
}
"""Family → files of its styles; the empty one is Pillow's own font."""
SMALLEST = 7
"""Pixels of the smallest type that can be read."""
MARGIN = 2
SPACING = 1.06
"""Distance of lines, in heights of the tallest and deepest letters."""
TALL = "AQbdfhkl()gjpqy,;"


def draw_text(
    text: str,
    font: str,
    *,
    size: int,
    largest: float,
    slack: tuple[float, float],
    ink: tuple[int, int, int],
    paper: tuple[int, int, int],
) -> Image.Image:
    """A square of `size` pixels with the text on it, in the largest type that fits.

    Args:
        largest: Type that no text exceeds, as a share of the side.
        slack: Where the text lies in the room that is left, 0 to 1 in each direction.

    Raises:
        ValueError: the text does not fit in any type that can be read.
    """
    room = size - 2 * MARGIN
    fitting, low, high = None, SMALLEST, max(SMALLEST, round(size * largest))
    while low <= high:  # the largest type whose lines fit
        middle = (low + high) // 2
        lines = _wrap(text, _font(font, middle), room)
        if lines and len(lines) * _line(font, middle).height <= room:
            fitting, low = (middle, lines), middle + 1
        else:
            high = middle - 1
    if fitting is None:
        raise ValueError(f"{len(text)} characters do not fit in {size} pixels")
    height, lines = fitting
    face, line = _font(font, height), _line(font, height)
    boxes = [face.getbbox(each) for each in lines]
    left, right = min(box[0] for box in boxes), max(box[2] for box in boxes)
    page = Image.new("RGB", (size, size), paper)
    pen = ImageDraw.Draw(page)
    x = MARGIN + slack[0] * (room - (right - left)) - left
    y = MARGIN + slack[1] * (room - len(lines) * line.height) - line.top
    for number, each in enumerate(lines):
        pen.text((int(x), int(y + number * line.height)), each, fill=ink, font=face)
    return page


def _wrap(text: str, face: ImageFont.FreeTypeFont, room: float) -> Sequence[str]:
    """Lines no wider than `room`; none where a word is."""

    def fits(line: str) -> bool:
        left, _, right, _ = face.getbbox(line)
        return right - left <= room

    lines: list[str] = []
    for word in text.split():
        if lines and fits(f"{lines[-1]} {word}"):
            lines[-1] += f" {word}"
        elif fits(word):
            lines.append(word)
        else:
            return ()
    return lines


@dataclass(frozen=True)
class _Line:
    """Where the ink of a line may lie."""

    top: float
    height: float


@lru_cache(maxsize=400)
def _line(font: str, height: int) -> _Line:
    """Measured on letters: what fonts declare as their height differs by half."""
    _, top, _, bottom = _font(font, height).getbbox(TALL)
    return _Line(top, (bottom - top) * SPACING)


@lru_cache(maxsize=400)
def _font(file: str, height: int) -> ImageFont.FreeTypeFont:
    # Basic layout: what raqm and its libraries do differs between machines.
    if not file:
        face = ImageFont.load_default(height)
        assert isinstance(face, ImageFont.FreeTypeFont), "Pillow is built with FreeType"
        return face.font_variant(layout_engine=ImageFont.Layout.BASIC)
    return ImageFont.truetype(_folder() / file, height, layout_engine=ImageFont.Layout.BASIC)


@lru_cache
def _folder() -> Path:
    """matplotlib's fonts, found without importing it."""
    package = find_spec("matplotlib")
    assert package is not None and package.submodule_search_locations, "matplotlib is a requirement"
    return Path(package.submodule_search_locations[0]) / "mpl-data" / "fonts" / "ttf"
