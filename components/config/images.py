"""What a picture from strangers may be."""

from __future__ import annotations

from components.config.base import Frozen


class ImageLimits(Frozen):
    """Placeholder until the examiner lands."""
