"""Read inside a package without unpacking it: wheels, npm tarballs, Debian packages.

Members are given one by one, in the archive's order, each at most `MAX_MEMBER` bytes; links are left out.
"""

from __future__ import annotations

import email.parser
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from components.errors import SourceError

MAX_MEMBER = 64 << 20
"""Bytes of a member at most; a larger one is left out (a bomb, or no sample)."""
AR_MAGIC, AR_HEADER = b"!<arch>\n", 60


def members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Every regular file of an archive: name and content.

    Raises:
        SourceError: it is not an archive of a kind that is known, or it is damaged.
    """
    try:
        if path.suffix == ".deb":
            yield from _tar_members(_open_deb(path, "data.tar"))
        elif path.suffix in (".whl", ".zip"):
            with zipfile.ZipFile(path) as archive:
                for info in archive.infolist():
                    if not info.is_dir() and info.file_size <= MAX_MEMBER:
                        yield info.filename, archive.read(info)
        else:
            with path.open("rb") as file:
                yield from _tar_members(file)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, pa.ArrowInvalid, ValueError) as error:
        raise SourceError(
            f"the package cannot be read: {error}", where=str(path), fix="delete it; it is fetched again"
        ) from error


def licence(path: Path) -> str:
    """The licence that a package declares; `unknown` where it declares none."""
    if path.suffix == ".whl":
        return _wheel_licence(path)
    if path.suffix == ".deb":
        return _deb_licence(path)
    with tarfile.open(path) as file:
        member = file.extractfile("package/package.json")
        assert member is not None
        declared = json.load(member).get("license", "")
    return str(declared.get("type", "") if isinstance(declared, dict) else declared) or "unknown"


def _tar_members(file: object) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=file, mode="r|*") as tar:  # type: ignore[call-overload]
        for info in tar:
            if info.isfile() and info.size <= MAX_MEMBER:
                content = tar.extractfile(info)
                assert content is not None, "a regular file has content"
                yield info.name.removeprefix("./"), content.read()


def _open_deb(path: Path, wanted: str) -> object:
    """The `data.tar` or `control.tar` in a Debian package, which is an `ar` archive (deb(5))."""
    with path.open("rb") as file:
        if file.read(len(AR_MAGIC)) != AR_MAGIC:
            raise ValueError("not a Debian package")
        while header := file.read(AR_HEADER):
            name, size = header[:16].decode("ascii").strip().rstrip("/"), int(header[48:58])
            if name.startswith(wanted):
                content = io.BytesIO(file.read(size))
                # tarfile knows gzip, bzip2 and xz; Ubuntu's packages are zstd.
                return pa.CompressedInputStream(content, "zstd") if name.endswith(".zst") else content
            file.seek(size + size % 2, 1)
    raise ValueError(f"no {wanted} in it")


def _wheel_licence(wheel: Path) -> str:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.parser.Parser().parsestr(archive.read(name).decode(), headersonly=True)
    classifiers = [
        line.rsplit(" :: ", 1)[-1]
        for line in metadata.get_all("Classifier", [])
        if line.startswith("License :: ")
    ]
    field = str(metadata.get("License", ""))
    short = field if "\n" not in field and field not in ("", "UNKNOWN") else ""
    return str(metadata.get("License-Expression", "")) or "; ".join(classifiers) or short or "unknown"


def _deb_licence(deb: Path) -> str:
    """The `License:` fields of a machine-readable copyright file (DEP-5); older files are prose."""
    for name, content in members(deb):
        if name.endswith("/copyright"):
            text = content.decode("utf-8", "replace")
            fields = dict.fromkeys(re.findall(r"^License: *(\S.*)$", text, re.MULTILINE))
            if fields:
                return "; ".join(sorted(field.strip() for field in fields))
            return "public-domain" if re.search("public domain", text, re.IGNORECASE) else "unknown"
    return "unknown"
