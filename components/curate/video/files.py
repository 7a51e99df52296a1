"""A clip as an open file, wherever it lies: in a folder, or inside a package."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO

from components.curate.archives import MAX_MEMBER, members


@contextmanager
def open_clip(path: Path, member: str = "") -> Iterator[IO[bytes]]:
    """
    Args:
        path: The clip, or the archive that holds it.
        member: Its name in the archive. It is copied to a file without a name, which goes with the process.

    Raises:
        OSError: there is no such file or member.
    """
    if not member:
        with path.open("rb") as file:
            yield file
        return
    with tempfile.TemporaryFile() as copy:
        copy.write(_member(path, member))
        copy.flush()
        yield copy


@lru_cache(maxsize=1)
def _member(path: Path, name: str) -> bytes:
    """At most `MAX_MEMBER` bytes; the last one is kept, because a clip is opened a few times in a row."""
    if path.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(path) as archive:
            if name in archive.namelist() and archive.getinfo(name).file_size <= MAX_MEMBER:
                return archive.read(name)
    else:
        for own, content in members(path):
            if own == name:
                return content
    raise FileNotFoundError(f"{path.name} holds no '{name}'")
