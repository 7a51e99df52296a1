"""Perceptual hashes of whole columns of thumbnails, also of what cropping and mirroring would make of them.

A picture comes as its thumbnail: luminance averaged to 32×32 and colour averaged to 8×8, 1216 bytes. Its
hash is the DCT hash of Zauner (2010, "Implementation and Benchmarking of Perceptual Image Hash
Functions") over the 64 lowest frequencies, with two changes: a bit says whether a coefficient exceeds half
of the median magnitude (not the median value), so that the coefficients near zero, of which drawings have
many, do not flip with noise; and the basis is rounded to integers, so that every sum is exact and the
hash is the same on every machine and with every BLAS.

A mirrored picture has the same coefficients with the sign of the odd horizontal frequencies turned, and
the same magnitudes, so the same threshold: its hash needs no second pass over the pixels. A cropped
picture is a window of the thumbnail, and a window only changes the basis.

Axes: N pictures, V views, K = 64 coefficients, P = 1024 pixels of the luminance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

GRAY, COLOUR = 32, 8
"""Sides of the two parts of a thumbnail."""
GRAY_BYTES = GRAY * GRAY
THUMB_BYTES = GRAY_BYTES + COLOUR * COLOUR * 3
BITS = 64
"""More were not better: at the same number of false pairs, 128 and 256 bits find the same copies."""
SCALE = 1 << 12
"""Of the integer basis: sums stay below 2^42, exact in float64."""
CHUNK = 4096
"""Pictures at a time: 32 MB of float64."""

Thumbnails: TypeAlias = npt.NDArray[np.uint8]
Hashes: TypeAlias = npt.NDArray[np.uint64]
Matrix: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class View:
    """A window of a picture (shares of its sides), perhaps mirrored left to right."""

    top: float = 0.0
    left: float = 0.0
    side: float = 1.0
    mirrored: bool = False


CROPS: tuple[tuple[float, float, int], ...] = ((0.03, 0.95, 2), (0.08, 0.9, 3), (0.15, 0.8, 4))
"""Windows for pictures that lost more than this share of their sides: size of the window, and how many
lie side by side. A crop is then at most 2.5% of the side away from one of them."""


def views(*, crop: float, mirrored: bool) -> tuple[View, ...]:
    """The whole picture first, then the windows up to a loss of `crop` of the sides, then their mirrors."""
    windows = [View()]
    for least, side, count in CROPS:
        if crop > least:
            starts = (np.arange(count) + 0.5) / count * (1 - side)
            windows += [View(float(top), float(left), side) for top in starts for left in starts]
    if not mirrored:
        return tuple(windows)
    return (*windows, *(View(each.top, each.left, each.side, True) for each in windows))


def thumbnail(image: Image.Image) -> bytes:
    """Luminance (ITU-R 601) of the area-averaged picture, then its colours, row by row."""
    rgb = image.convert("RGB")
    # Averages where pixels become fewer; blocks of equal pixels would be no average of the original.
    smooth = Image.Resampling.BOX if min(rgb.size) >= GRAY else Image.Resampling.BILINEAR
    gray = rgb.resize((GRAY, GRAY), smooth).convert("L")
    return gray.tobytes() + rgb.resize((COLOUR, COLOUR), Image.Resampling.BOX).tobytes()


def gray_of(thumbs_NB: Thumbnails) -> npt.NDArray[np.uint8]:
    """(N, 32, 32)."""
    return thumbs_NB[:, :GRAY_BYTES].reshape(-1, GRAY, GRAY)


def colour_of(thumbs_NB: Thumbnails) -> npt.NDArray[np.uint8]:
    """(N, 8, 8, 3)."""
    return thumbs_NB[:, GRAY_BYTES:].reshape(-1, COLOUR, COLOUR, 3)


def hash_images(gray_N32x32: npt.NDArray[np.uint8]) -> Hashes:
    """Hashes (N,) of the whole pictures."""
    hashes: Hashes = hash_views(gray_N32x32, (View(),))[0]
    return hashes


def hash_views(gray_N32x32: npt.NDArray[np.uint8], wanted: tuple[View, ...]) -> Hashes:
    """Hashes (V, N) of every view of every picture.

    Args:
        gray_N32x32: Luminance, uint8 (N, 32, 32).
        wanted: From `views`.
    """
    pixels_NP = gray_N32x32.reshape(len(gray_N32x32), GRAY_BYTES)
    hashes_VN = np.empty((len(wanted), len(pixels_NP)), np.uint64)
    for start in range(0, len(pixels_NP), CHUNK):
        chunk_NP = pixels_NP[start : start + CHUNK].astype(np.float64) - 128
        for number, coefficients_NK in enumerate(_coefficients(chunk_NP, wanted)):
            hashes_VN[number, start : start + CHUNK] = _to_bits(coefficients_NK)
    return hashes_VN


def _coefficients(pixels_NP: Matrix, wanted: tuple[View, ...]) -> Iterator[Matrix]:
    seen: dict[tuple[float, float, float], Matrix] = {}
    for view in wanted:
        window = (view.top, view.left, view.side)
        if window not in seen:
            seen[window] = pixels_NP @ _basis(*window).T
        yield seen[window] * mirror_signs() if view.mirrored else seen[window]


def _to_bits(coefficients_NK: Matrix) -> Hashes:
    """Bit k: coefficient k exceeds half of the (lower) median of the magnitudes."""
    magnitudes_NK = np.abs(coefficients_NK)
    median_N1 = np.partition(magnitudes_NK, BITS // 2 - 1, axis=1)[:, BITS // 2 - 1 : BITS // 2]
    packed = np.packbits(2 * coefficients_NK > median_N1, axis=1)
    return packed.view(">u8")[:, 0].astype(np.uint64)


@cache
def _frequencies() -> npt.NDArray[np.int64]:
    """(K, 2): vertical and horizontal frequencies, lowest sum first, without the mean."""
    grid = np.argwhere(np.ones((GRAY, GRAY), bool))
    order = np.lexsort((grid[:, 0], grid.sum(axis=1)))
    return grid[order[1 : BITS + 1]]


@cache
def mirror_signs() -> Matrix:
    """(K,): what mirroring multiplies the coefficients with."""
    return np.where(_frequencies()[:, 1] % 2, -1.0, 1.0)


@cache
def _basis(top: float, left: float, side: float) -> Matrix:
    """(K, P): whole numbers; row k gives coefficient k of the window from the pixels of the whole picture."""
    vertical, horizontal = _window_cosines(top, side), _window_cosines(left, side)
    rows = [np.outer(vertical[v], horizontal[h]).ravel() for v, h in _frequencies()]
    return np.stack(rows)


def _window_cosines(start: float, side: float) -> Matrix:
    """(frequencies, 32): DCT-II of a stretch of the axis, as whole numbers."""
    places = (np.arange(GRAY) + 0.5) / GRAY
    cosines = np.cos(np.pi * places[None, :] * np.arange(GRAY)[:, None])
    half = cosines[:, : GRAY // 2]  # the other half by symmetry, so that mirroring is exact
    signs = (1.0 - 2.0 * (np.arange(GRAY) % 2))[:, None]
    cosines = np.concatenate([half, half[:, ::-1] * signs], axis=1)
    exact: Matrix = np.round(cosines @ windows(np.array([start]), np.array([side]), GRAY)[0] * SCALE)
    return exact


def windows(starts: Matrix, sides: Matrix, size: int) -> Matrix:
    """(M, size, size): averages of the stretches [start, start + side) of an axis of `size` pixels.

    What of a stretch lies outside of the axis repeats its last pixel.
    """
    edges = (starts[:, None] + sides[:, None] * np.linspace(0, 1, size + 1)) * size
    low, high = edges[:, :-1, None], edges[:, 1:, None]
    pixels = np.arange(size)
    begin, end = np.where(pixels == 0, -np.inf, pixels), np.where(pixels == size - 1, np.inf, pixels + 1)
    overlap: Matrix = np.clip(np.minimum(high, end) - np.maximum(low, begin), 0, None)
    return overlap / (high - low)
