"""The source's own picture once more, for models that read it: what is delivered may be too small to read.

    original = Original(task, config.images)
    original(2000)      # encoded, its longer side at most 2000 pixels; or why it cannot be had

The funnel's checks decode a picture once, and keep what is delivered; only pictures that passed them and
that a model is asked about are loaded again here, one at a time, when they are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

from components.config import ImageLimits
from components.curate.examine import UNDRAWABLE
from components.curate.images import decode, encode, fit, read_header
from components.curate.plan import Task
from components.curate.samples import Reason
from components.curate.sources import READERS

DRAWN_SIDE = 1024
"""Pixels at most at which a picture is drawn: it is sharp at any size, and takes memory at a large one."""
LOSSY = frozenset({"jpeg", "webp"})
QUALITY = 95


@dataclass(frozen=True)
class Original:
    """Loads or draws the picture of one sample when it is called."""

    task: Task
    limits: ImageLimits

    def __call__(self, side: int) -> bytes | Reason:
        """The picture, encoded: a JPEG where the source has a lossy format, else a PNG.

        Args:
            side: Pixels of the longer side at most.

        Returns:
            `unreadable` where the source gives nothing any more, or what is wrong with what it gives.
        """
        try:
            return self._load(side) if self.task.encoded else self._draw(side)
        except UNDRAWABLE as error:
            return Reason("unreadable", evidence=str(error)[:200])

    def _load(self, side: int) -> bytes | Reason:
        content = self.task.load()
        header = read_header(content, self.limits)
        if isinstance(header, Reason):
            return header
        image = decode(content, header, side=side)
        if isinstance(image, Reason):
            return image
        return encode(image, "jpeg" if header.format in LOSSY else "png", QUALITY)

    def _draw(self, side: int) -> bytes:
        render = READERS[self.task.reader].render
        assert render is not None, "a sample with an image is loaded or drawn"
        image = render(self.task.draft.payload, min(side, DRAWN_SIDE))
        return encode(fit(image, side, "inside"), "png")
