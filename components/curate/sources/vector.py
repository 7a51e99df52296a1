"""Rasterize SVGs from strangers: whole, centred on a white square, and nothing read from outside.

resvg knows endless references and entity bombs; it would read an image that lies on this machine, and
deep nesting overflows its stack and ends the process. Both are looked for first.
"""

from __future__ import annotations

import io
import re
from xml.parsers import expat

import resvg_py
from PIL import Image

DPI = 96
"""CSS's pixels per inch; without it a size in millimetres counts as none."""
MAX_DEPTH = 200
"""Elements inside each other."""
MAX_USES = 2000
"""References to other elements, which may stand in a chain as deep as their number."""
EMBEDDED = re.compile(r"#|data:image/(png|jpe?g|gif|webp)\b|data:;base64,(iVBO|/9j/|R0lG)")
"""A part of the same SVG, or a bitmap inside it (some say no type; PNG, JPEG and GIF show in their head)."""
LOADING = frozenset({"image", "feImage", "use"})
"""Elements that draw what their `href` names."""


def rasterize(svg: str, size: int) -> Image.Image:
    """An RGB image of `size` × `size` pixels; what is not square is padded with white.

    Raises:
        ValueError: the SVG cannot be read, has no size, is nested too deep, or draws a file from outside.
    """
    assert_harmless(svg)
    png = resvg_py.svg_to_bytes(
        svg_string=svg, width=size, height=size, background="white", skip_system_fonts=True, dpi=DPI
    )
    drawn = Image.open(io.BytesIO(bytes(png))).convert("RGB")
    if drawn.size == (size, size):
        return drawn
    page = Image.new("RGB", (size, size), "white")
    page.paste(drawn, ((size - drawn.width) // 2, (size - drawn.height) // 2))
    return page


def assert_harmless(svg: str) -> None:
    """
    Raises:
        ValueError: not well-formed, nested too deep, too many references, or something is drawn from outside.
    """
    depth = uses = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth, uses
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"more than {MAX_DEPTH} elements inside each other")
        local = name.rpartition(":")[2]
        uses += local == "use"
        if uses > MAX_USES:
            raise ValueError(f"more than {MAX_USES} references")
        if local in LOADING:
            for key, value in attributes.items():
                if key.rpartition(":")[2] == "href" and not EMBEDDED.match(value.strip()):
                    raise ValueError(f"<{local}> draws from outside: {value[:80]}")

    def end(_name: str) -> None:
        nonlocal depth
        depth -= 1

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = start, end
    try:
        parser.Parse(svg.encode("utf-8", "replace"), True)
    except expat.ExpatError as error:
        raise ValueError(f"not well-formed: {error}") from error
