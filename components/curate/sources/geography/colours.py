"""Which of the common colours a drawing shows, decided only where the pixels leave no doubt.

A colour counts as present when pixels that are surely of it cover a share of the drawing, and as absent
when hardly a pixel could pass for it. Anything between is not decided, and nobody is asked about it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

PRESENT, ABSENT = 0.06, 0.004
"""Shares of the drawing: from here on a colour is there, up to here it is not."""
SURE = {
    "red": (345, 10, 0.60, 0.60),
    "orange": (20, 36, 0.70, 0.80),
    "yellow": (44, 62, 0.55, 0.75),
    "green": (85, 165, 0.40, 0.25),
    "blue": (208, 255, 0.55, 0.30),
}
"""Colour → lowest and highest hue in degrees (over 0 where the first is larger), least saturation, least
value (both 0 to 1): pixels that anybody would call so."""
MAYBE = {
    "red": (310, 22, 0.20, 0.20),
    "orange": (8, 48, 0.30, 0.40),
    "yellow": (30, 80, 0.25, 0.40),
    "green": (62, 195, 0.12, 0.12),
    "blue": (175, 285, 0.12, 0.12),
}
"""The same for pixels that somebody might call so."""
COLOURS = (*SURE, "black", "white")


def measure_colours(drawing: Image.Image) -> dict[str, tuple[float, float]]:
    """Colour → share of pixels that surely have it, and share of those that might."""
    hsv_HW3 = np.asarray(drawing.convert("HSV"), dtype=np.float64) / 255
    saturation, value = hsv_HW3[..., 1], hsv_HW3[..., 2]
    shares = {name: (_share(hsv_HW3, SURE[name]), _share(hsv_HW3, MAYBE[name])) for name in SURE}
    shares["black"] = (float((value < 0.16).mean()), float((value < 0.40).mean()))
    white, pale = (value > 0.92) & (saturation < 0.08), (value > 0.70) & (saturation < 0.30)
    shares["white"] = (float(white.mean()), float(pale.mean()))
    return shares


def present(shares: tuple[float, float]) -> bool:
    return shares[0] >= PRESENT


def absent(shares: tuple[float, float]) -> bool:
    return shares[1] <= ABSENT


def _share(hsv_HW3: npt.NDArray[np.float64], limits: tuple[float, float, float, float]) -> float:
    low, high, least_saturation, least_value = limits
    hue = hsv_HW3[..., 0] * 360
    inside = (hue >= low) & (hue <= high) if low <= high else (hue >= low) | (hue <= high)
    inside &= (hsv_HW3[..., 1] >= least_saturation) & (hsv_HW3[..., 2] >= least_value)
    return float(inside.mean())
