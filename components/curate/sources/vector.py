"""Rasterize SVGs: whole, centred on a white square, without system fonts or files from outside."""

from __future__ import annotations

import io

import resvg_py
from PIL import Image

DPI = 96
"""CSS's pixels per inch; without it a size in millimetres counts as none."""


def rasterize(svg: str, size: int) -> Image.Image:
    """An RGB image of `size` × `size` pixels; what is not square is padded with white.

    Raises:
        ValueError: the SVG cannot be read, or has no size.
    """
    png = resvg_py.svg_to_bytes(
        svg_string=svg, width=size, height=size, background="white", skip_system_fonts=True, dpi=DPI
    )
    drawn = Image.open(io.BytesIO(bytes(png))).convert("RGB")
    if drawn.size == (size, size):
        return drawn
    page = Image.new("RGB", (size, size), "white")
    page.paste(drawn, ((size - drawn.width) // 2, (size - drawn.height) // 2))
    return page
