"""Tiny folders, tars and tables of pictures with texts, and the short way from a locator to drafts."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from components.config import CurateConfig, SourceConfig
from components.curate.fetch import Scheme
from components.curate.samples import Draft
from components.curate.sources import Reader


def png(shade: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (shade % 256, shade // 256, 90)).save(buffer, "PNG")
    return buffer.getvalue()


def write(folder: Path, files: Mapping[str, bytes | str]) -> Path:
    """Files below a folder, by relative path."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def write_tar(path: Path, members: list[tuple[str, bytes | str]]) -> Path:
    """A tar with members in the given order; names may come twice."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def read(
    scheme: Scheme, reader: Reader, locator: str, downloads: Path, *, seed: int = 0, **options: Any
) -> list[Draft]:
    """Drafts of a source, fetched and planned as the stage does it."""
    source = SourceConfig(locator=locator, category="photos", options=options)
    scheme.check(locator)
    assert not scheme.unavailable(locator, downloads)
    fetched = scheme.fetch(locator, source, downloads)
    return reader.plan({"data": fetched.path}, source, CurateConfig(sources=(source,), seed=seed))


def failures(drafts: list[Draft]) -> dict[str, str]:
    """Id → reason code of the drafts that are no samples."""
    return {each.original_id: each.payload["failed"] for each in drafts if "failed" in each.payload}


def answers(drafts: list[Draft]) -> dict[str, list[str]]:
    """Id → answers of the drafts that are samples."""
    good = [each for each in drafts if "failed" not in each.payload]
    return {each.original_id: [turn.answer for turn in each.turns] for each in good}
