"""What a picture must be to be looked at, and what it must show to be kept."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import Field, model_validator

from components.config.base import Frozen

ImageFormat: TypeAlias = Literal["jpeg", "png", "webp", "gif", "bmp", "tiff"]
"""Formats that can be decoded; others are told apart but never opened."""


class ImageLimits(Frozen):
    """Bounds that are checked from the header, before a pixel is decoded, and what the pixels must show."""

    formats: tuple[ImageFormat, ...] = ("jpeg", "png", "webp", "gif", "bmp", "tiff")
    """Allowed formats, as the content says and not the name."""
    max_bytes: int = Field(64 << 20, ge=1)
    """Bytes of the file."""
    min_side: int = Field(8, ge=1)
    """Pixels of the shorter side at least."""
    max_side: int = Field(20_000, ge=1, le=65_535)
    """Pixels of the longer side at most."""
    max_pixels: int = Field(89_000_000, ge=1, le=89_478_485)
    """Width × height at most, a quarter of it for WebP; more is taken for a decompression bomb. A decoder
    takes four to six bytes for each, in every worker. The upper bound is Pillow's own."""
    max_aspect: float = Field(20.0, ge=1)
    """Longer side by shorter side at most."""
    animated: Literal["first_frame", "reject"] = "first_frame"
    """What becomes of pictures with more than one frame or page."""
    blank: bool = True
    """Reject pictures of one colour."""
    blur: float = Field(0.0, ge=0)
    """Reject pictures whose Laplacian, at 256 pixels on the longer side, has a variance below this; 0: off.
    Sharp photographs have hundreds to thousands, drawings with large plain areas less."""

    @model_validator(mode="after")
    def _ordered(self) -> ImageLimits:
        if self.min_side > self.max_side:
            raise ValueError(f"min_side {self.min_side} is above max_side {self.max_side}")
        return self
