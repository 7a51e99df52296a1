"""Encoded pictures where they lie: a file, a range of a tar, or a row of a parquet file.

payload = {"path": …}
        | {"path": …, "offset": …, "size": …}
        | {"parquet": …, "row_group": …, "row": …, "column": …, "position": …}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from components.curate.samples import Reason
from components.curate.sources.files.pairs import LIMITS
from components.curate.sources.files.parquet import load_embedded

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".jp2"}
    | {".ppm", ".pgm", ".pbm", ".ico", ".tga", ".svg"}
)
"""What is taken for a picture by its name; whether it is one is for the funnel to find."""


def is_picture(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUFFIXES


def too_large(size: int) -> Reason | None:
    """Why a picture of so many bytes is not loaded, or None."""
    return Reason("too_large", evidence=f"{size} bytes") if size > LIMITS.max_member_bytes else None


def load(payload: Mapping[str, Any]) -> bytes:
    """The bytes of a picture as its source holds them.

    Raises:
        OSError, ValueError: it is no longer there, or damaged.
    """
    if "parquet" in payload:
        return load_embedded(payload)
    with Path(payload["path"]).open("rb") as file:
        if "offset" not in payload:
            return file.read(LIMITS.max_member_bytes)
        file.seek(payload["offset"])
        content = file.read(payload["size"])
    if len(content) != payload["size"]:
        raise ValueError(f"{len(content)} bytes instead of {payload['size']}")
    return content
