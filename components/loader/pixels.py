"""Pictures as training reads them: from an array made once, or decoded out of the shards as they are needed.

Both give the same bytes. The array costs disk (a tile of 512 pixels is 786 kB) and is read at the speed of
memory; a stream costs a decode each time and no disk, which is how datasets that outgrow a disk are read.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from components.loader.shards import ShardReader
from components.vlm.families import Family, Grid, Pixels

Ints = npt.NDArray[np.int64]


class Images(Protocol):
    """The pictures of a split, by number."""

    def __call__(self, image: int) -> Pixels:
        """(R, C, H, W), 0 to 255: R rows of the family's pixel store."""


@dataclass(frozen=True)
class CachedImages:
    """Pictures in one array.

    Args:
        pixels_RCHW: Rows of all pictures, in memory or mapped from a file.
        row_I: Where a picture's rows start (one more entry than pictures: the end).
    """

    pixels_RCHW: Pixels
    row_I: Ints

    def __call__(self, image: int) -> Pixels:
        return self.pixels_RCHW[self.row_I[image] : self.row_I[image + 1]]


@dataclass(frozen=True)
class StreamedImages:
    """Pictures decoded when they are asked for.

    Args:
        place_I3: Number of the shard, offset and size of each picture.
        grid_I2: How each is cut.
    """

    reader: ShardReader
    family: Family
    shards: tuple[str, ...]
    place_I3: Ints
    grid_I2: npt.NDArray[np.int32]

    def __call__(self, image: int) -> Pixels:
        shard, offset, size = (int(each) for each in self.place_I3[image])
        content = self.reader.read(self.shards[shard], offset, size)
        rows, columns = (int(each) for each in self.grid_I2[image])
        return decode(content, self.family, (rows, columns))


def decode(content: bytes, family: Family, grid: Grid) -> Pixels:
    """An encoded picture as `family` cuts it."""
    with Image.open(io.BytesIO(content)) as opened:
        return family.pixels(opened.convert("RGB"), grid)


def size_of(content: bytes) -> tuple[int, int]:
    """Width and height of an encoded picture, from its header."""
    with Image.open(io.BytesIO(content)) as opened:
        return opened.size


class NoImages:
    """Stands where pictures are not kept."""

    def __call__(self, image: int) -> Pixels:
        raise AssertionError("the pictures of this split were not kept")
