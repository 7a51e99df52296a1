"""The per-sample work, in worker processes: look at the header, then decode once and measure everything.

Both passes give one row per sample and never raise for a bad one: it ends with a reason.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from math import ceil
from pathlib import Path
from typing import Literal

from PIL import Image

from components.config import CurateConfig, ImageLimits
from components.curate.chunks import Blob, Row, run_in_chunks
from components.curate.duplicates.perceptual import thumbnail
from components.curate.engines import Engine
from components.curate.images import (
    Examined,
    encode,
    examine,
    examine_image,
    fit,
    is_misnamed,
    read_header,
)
from components.curate.plan import Task
from components.curate.samples import Header, Picture, Place, Reason
from components.curate.sources import READERS

UNDRAWABLE = (OSError, ValueError, SyntaxError, zlib.error, Image.DecompressionBombError)
"""What readers, PIL and resvg raise on broken or hostile input."""
PIXELS_SIDE = 256
"""Longer side of the pixels that are kept for the models that judge pictures."""
SUFFIXES = {"jpeg": "jpg", "tiff": "tif"}
"""Where a format's usual suffix is not its name."""


@dataclass(frozen=True)
class Delivery:
    """What becomes of a picture, and what is measured on the way."""

    side: int
    raw: bool
    """Keep the source's own bytes."""
    fit: Literal["pad", "inside", "crop"]
    format: Literal["png", "jpeg", "webp"]
    quality: int
    limits: ImageLimits

    @classmethod
    def of(cls, config: CurateConfig) -> Delivery:
        return cls(
            side=config.image_size,
            raw=config.delivery == "raw",
            fit=config.fit,
            format=config.image_format,
            quality=config.image_quality,
            limits=config.images,
        )


def read_headers(
    engine: Engine, tasks: Sequence[Task], limits: ImageLimits, directory: Path
) -> tuple[list[Header | Reason], float]:
    """What every encoded picture is, without decoding it, or why it is rejected; seconds of work."""
    done = run_in_chunks(engine, "read headers", partial(_headers, limits=limits), tasks, directory)
    return [_header(row) for row in done.rows], done.seconds


def _headers(tasks: Sequence[Task], _blob: Blob, *, limits: ImageLimits) -> list[Row]:
    return [_header_row(task, limits) for task in tasks]


def _header_row(task: Task, limits: ImageLimits) -> Row:
    empty: Row = {"code": "", "evidence": "", **asdict(Header("", 0, 0, 0, ""))}
    failed = task.draft.payload.get("failed")
    if failed:
        return empty | {"code": str(failed), "evidence": str(task.draft.payload.get("evidence", ""))}
    try:
        content = task.load()
    except UNDRAWABLE as error:
        return empty | {"code": "unreadable", "evidence": str(error)[:200]}
    header = read_header(content, limits)
    if isinstance(header, Reason):
        return empty | {"code": header.code, "evidence": header.evidence, "num_bytes": len(content)}
    return empty | {
        "format": header.format,
        "width": header.width,
        "height": header.height,
        "num_bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "misnamed": is_misnamed(task.draft.file_name, header),
    }


def _header(row: Row) -> Header | Reason:
    if row["code"]:
        return Reason(row["code"], evidence=row["evidence"])
    return Header(**{name: value for name, value in row.items() if name not in ("code", "evidence")})


def examine_all(
    engine: Engine, tasks: Sequence[Task], delivery: Delivery, directory: Path
) -> tuple[list[Picture | Reason], float]:
    """Decode (or draw) every picture once: its measures and its delivered bytes, or why it is rejected."""
    done = run_in_chunks(engine, "decode", partial(_examine_chunk, delivery=delivery), tasks, directory)
    return [_picture(row) for row in done.rows], done.seconds


def _examine_chunk(tasks: Sequence[Task], blob: Blob, *, delivery: Delivery) -> list[Row]:
    return [_examine_row(task, blob, delivery) for task in tasks]


def _examine_row(task: Task, blob: Blob, delivery: Delivery) -> Row:
    try:
        content = task.load() if task.encoded else b""
        examined = _examined(task, content, delivery)
        if isinstance(examined, Reason):
            return _row(examined, None)
        return _row(None, _deliver(task, content, examined, blob, delivery))
    except UNDRAWABLE as error:
        return _row(Reason("undecodable", evidence=str(error)[:200]), None)


def _examined(task: Task, content: bytes, delivery: Delivery) -> Examined | Reason:
    if not task.encoded:
        render = READERS[task.reader].render
        assert render is not None, "a sample with an image is loaded or drawn"
        image = render(task.draft.payload, delivery.side)
        return examine_image(image, delivery.limits, side=longer_side(*image.size, delivery))
    header = read_header(content, delivery.limits)
    if isinstance(header, Reason):
        return header
    side = longer_side(header.width, header.height, delivery)
    return examine(content, header, delivery.limits, side=side)


def longer_side(width: int, height: int, delivery: Delivery) -> int:
    """Pixels of a picture's longer side that its delivery takes: a crop fills the square with the shorter."""
    if delivery.fit != "crop":
        return delivery.side
    return ceil(delivery.side * max(width, height) / min(width, height))


def _deliver(task: Task, content: bytes, examined: Examined, blob: Blob, delivery: Delivery) -> Picture:
    if delivery.raw and task.encoded:
        header = read_header(content, delivery.limits)
        assert not isinstance(header, Reason), "it was decoded"
        place, suffix = blob.append(content), SUFFIXES.get(header.format, header.format)
        width, height = examined.width, examined.height
    else:
        image = fit(examined.image, delivery.side, delivery.fit)
        place = blob.append(encode(image, delivery.format, delivery.quality))
        suffix, (width, height) = SUFFIXES.get(delivery.format, delivery.format), image.size
    pixels, size = None, (0, 0)
    if task.keep_pixels:
        small = examined.image.copy()
        small.thumbnail((PIXELS_SIDE, PIXELS_SIDE))
        pixels, size = blob.append(small.tobytes()), small.size
    return Picture(
        place=place,
        format=suffix,
        width=width,
        height=height,
        pixels_sha256=examined.pixels_sha256,
        thumbnail=thumbnail(examined.image),
        blur=examined.blur,
        pixels=pixels,
        pixels_size=size,
    )


def _row(reason: Reason | None, picture: Picture | None) -> Row:
    """A flat row of values that Arrow knows."""
    row: Row = {"code": reason.code if reason else "", "evidence": reason.evidence if reason else ""}
    if picture is None:
        return row | {"format": ""}
    row |= {name: value for name, value in asdict(picture).items() if name not in ("place", "pixels")}
    for name, place in (("place", picture.place), ("pixels", picture.pixels)):
        row |= {
            f"{name}_path": str(place.path) if place else "",
            f"{name}_offset": place.offset if place else 0,
            f"{name}_bytes": place.size if place else 0,
        }
    return row | {"pixels_size": list(picture.pixels_size)}


def _picture(row: Row) -> Picture | Reason:
    if row["code"]:
        return Reason(row["code"], evidence=row["evidence"])
    places = {
        name: Place(Path(row[f"{name}_path"]), row[f"{name}_offset"], row[f"{name}_bytes"])
        for name in ("place", "pixels")
        if row[f"{name}_path"]
    }
    return Picture(
        place=places["place"],
        format=row["format"],
        width=row["width"],
        height=row["height"],
        pixels_sha256=row["pixels_sha256"],
        thumbnail=row["thumbnail"],
        blur=row["blur"],
        pixels=places.get("pixels"),
        pixels_size=tuple(row["pixels_size"]),
    )
