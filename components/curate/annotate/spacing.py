"""Spaces that a recognizer left out, put back from the gaps in the ink.

PP-OCRv4's recognizer was trained on Chinese first and drops many spaces between Latin words (measured in
`ocr`). Where its text has no space and the picture has a gap as wide as between words, there is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

Crop: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]
Widths: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]

CLOSEST, TYPICAL, FURTHEST = 1.7, 2.4, 3.5
"""Words are apart by this many times the median gap, most gaps being between letters."""
NARROWEST, WIDEST = 0.24, 0.6
"""No text needs less than the first between its words, as a share of the ink's height, nor more than the
second. All were chosen on DejaVu and Aileron; other fonts were kept for measuring."""
MIN_CONTRAST = 40
"""Gray levels between ink and paper; with less, gaps cannot be seen."""


NUMBER = frozenset("0123456789.,")


@dataclass(frozen=True)
class Gap:
    """Columns without ink, and their width as a share of the ink's height."""

    begin: int
    end: int
    width: float


def restore_spaces(text: str, centres: Sequence[float], crop: Crop) -> str:
    """`text` with a space wherever the crop has a gap between words and the text has none.

    Args:
        text: What was recognized.
        centres: Where each character stands, in pixels from the left, shape (len(text),).
        crop: The line, shape (height, width, 3).
    """
    places = set()
    for gap in word_gaps(crop):
        place = sum(centre < (gap.begin + gap.end) / 2 for centre in centres)
        if not 0 < place < len(text) or text[place - 1].isspace() or text[place].isspace():
            continue
        # All digits of many fonts are as wide as the widest, so that a 1 stands alone: `19.7` is one number.
        inside_number = {text[place - 1], text[place]} <= NUMBER
        if not inside_number or gap.width >= WIDEST:
            places.add(place)
    return "".join(f" {char}" if place in places else char for place, char in enumerate(text))


def word_gaps(crop: Crop) -> list[Gap]:
    """Columns without ink that are as wide as between words."""
    ink = _ink(crop)
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    if len(columns) < 2:
        return []
    gaps = [(int(left) + 1, int(right)) for left, right in pairwise(columns) if right - left > 1]
    if not gaps:
        return []
    widths = np.array([end - begin for begin, end in gaps]) / (rows[-1] - rows[0] + 1)
    wide = _threshold(widths)
    return [
        Gap(begin, end, float(width))
        for (begin, end), width in zip(gaps, widths, strict=True)
        if width >= wide
    ]


def _threshold(widths: Widths) -> float:
    """What parts the gaps between letters from those between words, shape (n,), as shares of the height.

    The middle of the largest step from one width to the next, among the steps near what is typical: the
    letters of a typewriter stand further apart than the words of a narrow type.
    """
    median = float(np.median(widths))
    low, high = max(NARROWEST, CLOSEST * median), min(WIDEST, FURTHEST * median)
    steps = [(b / a, (a + b) / 2) for a, b in pairwise(np.unique(widths)) if a <= high and b >= low]
    if steps:
        return min(high, max(low, float(max(steps)[1])))
    return min(WIDEST, max(NARROWEST, TYPICAL * median))


def _ink(crop: Crop) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which pixels are ink: the side of Otsu's threshold that has fewer; none where nothing stands out."""
    import cv2

    gray = np.asarray(crop, dtype=np.float32).mean(axis=2).astype(np.uint8)
    if int(gray.max()) - int(gray.min()) < MIN_CONTRAST:
        return np.zeros(gray.shape, dtype=bool)
    _, light = cv2.threshold(gray, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    bright = np.asarray(light, dtype=bool)
    return bright if bright.mean() < 0.5 else ~bright
