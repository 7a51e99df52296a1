"""Find in an SVG what must not be drawn, before anything is: by counting, and in one pass of a parser.

Looked for: files and pages from outside, nesting without end (which overflows a renderer's stack),
references that multiply (ten groups of ten uses of ten groups: a billion shapes in a kilobyte), and
bitmaps inside that unpack to gigabytes.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes
from xml.parsers import expat

from components.config.images import ImageLimits
from components.curate.image_headers import read_header
from components.curate.samples import Reason

MAX_CHARACTERS = 8 << 20
"""Characters of an SVG; the largest of Open Clip Art has 1.7 million."""
MAX_DEPTH = 200
"""Elements inside each other, those that are referred to included; Open Clip Art has up to 23."""
MAX_DRAWN = 100_000
"""Elements, each counted as often as references repeat it; Open Clip Art has up to 23,512."""
LOADING = frozenset({"image", "feImage", "use"})
"""Elements that draw what their `href` names."""
BITMAP = re.compile(r"data:(image/(png|jpe?g|gif|webp))?(;[\w=-]+)*?(;base64)?,", re.IGNORECASE)
"""A bitmap inside the SVG. Some state no type; what it is shows in its content."""
BITMAPS = ImageLimits(
    formats=("png", "jpeg", "gif", "webp"), max_pixels=16_000_000, min_side=1, max_aspect=1e9
)
REFERENCE = re.compile(r"url\(\s*['\"]?#([^'\")\s]+)")


@dataclass
class _Element:
    children: list[_Element] = field(default_factory=list)
    references: list[str] = field(default_factory=list)
    drawn: int = 0
    """Elements that it draws, itself included; 0: not yet counted."""
    depth: int = 0
    open: bool = False
    """Being counted: a reference to it is endless, and renderers draw nothing for it."""


def assert_harmless(svg: str) -> None:
    """
    Raises:
        ValueError: not well-formed, too large, nested too deep, too many elements, or something is drawn from
            outside.
    """
    if len(svg) > MAX_CHARACTERS:
        raise ValueError(f"more than {MAX_CHARACTERS} characters")
    root = _Element()
    named: dict[str, _Element] = {}
    path = [root]
    number = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal number
        number += 1
        if number > MAX_DRAWN:
            raise ValueError(f"more than {MAX_DRAWN} elements")
        if len(path) > MAX_DEPTH:
            raise ValueError(f"more than {MAX_DEPTH} elements inside each other")
        element = _Element()
        path[-1].children.append(element)
        path.append(element)
        local = name.rpartition(":")[2]
        for key, value in attributes.items():
            if key == "id":
                named.setdefault(value, element)
            elif key.rpartition(":")[2] == "href":
                reference = value.strip()
                if reference.startswith("#"):
                    element.references.append(reference[1:])
                elif local in LOADING:
                    _assert_bitmap(local, reference)
            elif "url(" in value:
                element.references += REFERENCE.findall(value)

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _name: path.pop()
    try:
        parser.Parse(svg.encode("utf-8", "replace"), True)
    except expat.ExpatError as error:
        raise ValueError(f"not well-formed: {error}") from error
    _assert_drawable(root, named)


def _assert_bitmap(element: str, reference: str) -> None:
    """
    Raises:
        ValueError: not a bitmap inside the SVG, or not one that may be decoded.
    """
    form = BITMAP.match(reference)
    if not form:
        raise ValueError(f"<{element}> draws from outside: {reference[:80]}")
    packed = reference[form.end() :]
    try:
        content = base64.b64decode(packed) if form.group(4) else unquote_to_bytes(packed)
    except binascii.Error as error:
        raise ValueError(f"<{element}> holds no bitmap: {error}") from error
    header = read_header(content, BITMAPS)
    if isinstance(header, Reason):
        raise ValueError(f"<{element}> holds a bitmap that is not decoded: {header.code} {header.evidence}")


def _assert_drawable(root: _Element, named: dict[str, _Element]) -> None:
    """Count what every element draws, without recursion: the nesting is what is in question.

    Raises:
        ValueError: too many elements, or too deep.
    """
    pending = [root]
    while pending:
        element = pending[-1]
        below = element.children + [named[each] for each in element.references if each in named]
        if not element.drawn and not element.open:
            element.open = True
            pending += [each for each in below if not each.drawn and not each.open]
            continue
        pending.pop()
        if element.drawn:
            continue
        element.open = False
        element.drawn = 1 + sum(each.drawn for each in below)
        element.depth = 1 + max((each.depth for each in below), default=0)
        if element.drawn > MAX_DRAWN:
            raise ValueError(f"more than {MAX_DRAWN} elements, as often as they are drawn")
        if element.depth > MAX_DEPTH + 1:
            raise ValueError(f"more than {MAX_DEPTH} elements inside each other, by reference")
