"""Are two pictures with near hashes the same picture? Judged on their thumbnails, a column of pairs at once.

A hash of low frequencies takes two digit strings, two bar charts, or a red and a green circle for one
picture. The thumbnails tell them apart: the luminance of one is fitted to the other's with a gain, an
offset, and a shift and a zoom of less than a pixel (one least-squares step of Lucas and Kanade, 1981), and
what is left is measured in the block where it is largest, since different samples differ in one place and
copies differ a little everywhere. Colour is compared as chroma, cell by cell, but not between photographs:
their layout alone is enough, and copies are recoloured.

Axes: M pairs, P = 1024 pixels, R = 6 regressors.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from components.config.duplicates import NearDuplicateConfig
from components.curate.duplicates.perceptual import (
    GRAY,
    Matrix,
    Thumbnails,
    View,
    colour_of,
    gray_of,
    windows,
)

Floats: TypeAlias = npt.NDArray[np.float32]
Flags: TypeAlias = npt.NDArray[np.bool_]
CHUNK = 64
"""Pairs at a time: their regressors, 1.5 MB, stay in the cache."""
REGRESSORS = 6
"""Offset, gain, shift along x and y, zoom along x and y."""
CELL = 4
"""Side of the blocks of luminance that are judged, in pixels of the thumbnail."""
LEAST_CONTRAST = 4.0
"""Levels; below, a picture counts as this contrasted, so that noise on a plain page is no difference."""
LEAST_CORRELATION, LEAST_OF_CROPS = 0.9, 0.75
"""Of the luminance before any fit, for whole pictures and for windows: cheap to know, and below it the fit
accepts no more than 1 copy in 2,000."""
LEAST_GAIN = 0.6
"""And its inverse at most: a picture that was made much darker than this is not found."""
MOST_SHIFT = 1.2
"""Pixels by which the fit may move an edge; the windows of crops lie at most 0.8 away."""
SHIFT_NOISE = 0.1 * 0.5**0.5
"""Share of the contrast that a shift by one pixel must explain per pixel of the thumbnail to be believed."""
PLAIN_DEVIATION, PLAIN_SHARE = 0.5, 0.1
"""A block is plain below this standard deviation (levels); a picture with more plain blocks than this share
is no photograph. Of the photographs 1 in 20 is taken for a drawing, of emoji, clip art and charts 1 in 27 for
a photograph."""


def same_pictures(
    thumbs: Thumbnails,
    pairs_M2: npt.NDArray[np.int64],
    view: View,
    photographs: Flags,
    config: NearDuplicateConfig,
) -> Flags:
    """Which pairs (M,) are one picture: the first of each, seen through `view`, against the second.

    Args:
        thumbs: (N, bytes).
        pairs_M2: Rows of `thumbs`.
        photographs: (N,), from `are_photographs`.
        config: Limits.
    """
    same = np.zeros(len(pairs_M2), bool)
    for start in range(0, len(pairs_M2), CHUNK):
        left, right = pairs_M2[start : start + CHUNK].T
        photograph = photographs[left] & photographs[right]
        same[start : start + CHUNK] = _judge(thumbs[left], thumbs[right], view, photograph, config)
    return same


def are_photographs(thumbs: Thumbnails) -> Flags:
    """Which pictures have hardly any plain block: drawings have plain grounds and fills."""
    found = np.zeros(len(thumbs), bool)
    for start in range(0, len(thumbs), CHUNK):
        pixels_MP = thumbs[start : start + CHUNK, : GRAY * GRAY].astype(np.float32)
        variance = (pixels_MP**2) @ block_means() - (pixels_MP @ block_means()) ** 2
        plain = variance < PLAIN_DEVIATION**2
        found[start : start + CHUNK] = plain.mean(axis=1) <= PLAIN_SHARE
    return found


@cache
def block_means() -> Floats:
    """(P, blocks): averages the pixels of each block."""
    cells = np.arange(GRAY) // CELL
    block = (cells[:, None] * (GRAY // CELL) + cells[None, :]).ravel()
    means: Floats = (block[:, None] == np.arange((GRAY // CELL) ** 2)).astype(np.float32) / CELL**2
    return means


def _judge(
    left: Thumbnails, right: Thumbnails, view: View, photograph: Flags, config: NearDuplicateConfig
) -> Flags:
    window = _Window.of(view)
    seen_MYX = _centred(window.cut(_turned(gray_of(left), view)))
    other_MYX = _centred(gray_of(right).astype(np.float32))
    least = LEAST_CORRELATION if view.side == 1 else LEAST_OF_CROPS
    same = _correlation(seen_MYX, other_MYX) >= least
    rows = np.flatnonzero(same)
    left, right, photograph, other_MYX = left[rows], right[rows], photograph[rows], other_MYX[rows]
    fit = _fit(seen_MYX[rows], other_MYX)
    if view.side < 1:  # the crop is not quite this window: take the one that the fit points to
        moved = window.moved(fit.shift_M4)
        again = _fit(_centred(moved.cut(_turned(gray_of(left), view))), other_MYX)
        fit.worst_M = np.minimum(fit.worst_M, again.worst_M)
    colour = _colour_difference(left, right, view, window, fit.gain_M)
    same[rows] = (fit.worst_M <= config.picture_difference) & (
        photograph | (colour <= config.colour_difference)
    )
    return same


def _turned(planes_MYX: npt.NDArray[np.uint8], view: View) -> Floats:
    planes = planes_MYX.astype(np.float32)
    return planes[:, :, ::-1] if view.mirrored else planes


@dataclass(frozen=True)
class _Window:
    """A stretch of each axis, as shares; one for all pictures, or one for each of M."""

    top_M: Matrix
    left_M: Matrix
    height_M: Matrix
    width_M: Matrix

    @classmethod
    def of(cls, view: View) -> _Window:
        """In the picture that was mirrored already, where the view says so."""
        left = 1 - view.left - view.side if view.mirrored else view.left
        return cls(*(np.array([each]) for each in (view.top, left, view.side, view.side)))

    def cut(self, planes_MYX: Floats) -> Floats:
        """The window of each plane, brought to the plane's size."""
        if (self.height_M == 1).all() and (self.width_M == 1).all():
            return planes_MYX
        size = planes_MYX.shape[1]
        rows = windows(self.top_M, self.height_M, size).astype(np.float32)
        columns = windows(self.left_M, self.width_M, size).astype(np.float32)
        return (rows @ planes_MYX @ columns.transpose(0, 2, 1)).astype(np.float32, copy=False)

    def moved(self, shift_M4: Matrix) -> _Window:
        """Shifted and zoomed by pixels of the window: x, y, and the edges' shares of both."""
        x, y, zoom_x, zoom_y = shift_M4.T / GRAY
        return _Window(
            self.top_M + self.height_M * (y - zoom_y),
            self.left_M + self.width_M * (x - zoom_x),
            self.height_M * (1 + 2 * zoom_y),
            self.width_M * (1 + 2 * zoom_x),
        )


def _centred(planes_MYX: Floats) -> Floats:
    centred: Floats = planes_MYX - planes_MYX.mean(axis=(1, 2), keepdims=True)
    return centred


def _mean_square(planes_MYX: Floats) -> Floats:
    return np.asarray(np.einsum("myx,myx->m", planes_MYX, planes_MYX) / GRAY**2)


def _correlation(one_MYX: Floats, other_MYX: Floats) -> Floats:
    """Two flat pictures correlate fully: what tells them apart is their colour."""
    products = np.einsum("myx,myx->m", one_MYX, other_MYX) / GRAY**2
    squares = _mean_square(one_MYX) * _mean_square(other_MYX)
    flat = LEAST_CONTRAST**4
    correlation: Floats = np.where(squares < flat, 1.0, products / np.sqrt(np.maximum(squares, flat)))
    return correlation


@dataclass
class _Fit:
    """How the one picture became the other."""

    worst_M: Floats
    """What is left in the block where it is most, over the contrast."""
    gain_M: Floats
    shift_M4: Matrix
    """Pixels: shift along x and y, and by how much zooming moves the edges along x and y."""


def _fit(seen_MYX: Floats, other_MYX: Floats) -> _Fit:
    """Least squares of `other` on `seen`, its gradients, and its gradients by place; both centred."""
    place = np.linspace(-1, 1, GRAY, dtype=np.float32)
    regressors = np.ones((len(seen_MYX), REGRESSORS, GRAY, GRAY), np.float32)
    regressors[:, 1] = seen_MYX
    regressors[:, 2], regressors[:, 3] = np.gradient(seen_MYX, axis=(2, 1))
    regressors[:, 4], regressors[:, 5] = regressors[:, 2] * place, regressors[:, 3] * place[:, None]
    regressors_MRP = regressors.reshape(-1, REGRESSORS, GRAY * GRAY)
    target_MP = other_MYX.reshape(-1, GRAY * GRAY)
    squares = np.maximum(_mean_square(seen_MYX), _mean_square(other_MYX))
    contrast_M = np.maximum(np.sqrt(squares), LEAST_CONTRAST)
    penalty_MR = np.full((len(seen_MYX), REGRESSORS), GRAY**2, np.float64)
    penalty_MR[:, 2:] *= ((SHIFT_NOISE * contrast_M) ** 2)[:, None]
    normal_MRR = (regressors_MRP @ regressors_MRP.transpose(0, 2, 1)).astype(np.float64)
    normal_MRR += np.eye(REGRESSORS) * penalty_MR[:, :, None]
    wanted_MR1 = (regressors_MRP @ target_MP[:, :, None]).astype(np.float64)
    wanted_MR1[:, 1] += GRAY**2  # a flat picture says nothing about the gain: it is taken for 1
    found_MR = np.linalg.solve(normal_MRR, wanted_MR1)[:, :, 0]
    gain_M = np.clip(found_MR[:, 1], LEAST_GAIN, 1 / LEAST_GAIN)
    shift_M4 = np.clip(found_MR[:, 2:] / gain_M[:, None], -MOST_SHIFT, MOST_SHIFT)
    factors_MR = np.concatenate(
        [np.zeros_like(gain_M)[:, None], gain_M[:, None], shift_M4 * gain_M[:, None]], axis=1
    )
    left_MP = target_MP - (factors_MR[:, None, :].astype(np.float32) @ regressors_MRP)[:, 0]
    left_MP -= left_MP.mean(axis=1, keepdims=True)  # the offset, after what was clipped
    worst_M = (np.abs(left_MP) @ block_means()).max(axis=1, initial=0) / contrast_M
    return _Fit(worst_M.astype(np.float32), gain_M.astype(np.float32), shift_M4)


def _colour_difference(
    left: Thumbnails, right: Thumbnails, view: View, window: _Window, gain: Floats
) -> Floats:
    """Largest difference of chroma (red - green, yellow - blue) over 2×2 cells, in levels."""
    planes = colour_of(left)
    seen = np.stack([window.cut(_turned(planes[..., channel], view)) for channel in range(3)], axis=-1)
    difference = _chroma(colour_of(right).astype(np.float32)) - gain[:, None, None, None] * _chroma(seen)
    half = difference.shape[1] // 2
    coarse = difference.reshape(-1, half, 2, half, 2, 2).mean(axis=(2, 4))
    largest: Floats = np.abs(coarse).max(axis=(1, 2, 3), initial=0)
    return largest


def _chroma(rgb: Floats) -> Floats:
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    return np.stack([red - green, (red + green) / 2 - blue], axis=-1)
