"""Read inside a package without unpacking it: wheels, npm tarballs, Debian packages.

Members are given one by one, in the archive's order, each at most `MAX_MEMBER` bytes. Links, devices, paths
that leave the archive and second members of one name are left out; nothing is held but one member.
"""

from __future__ import annotations

import bz2
import email.parser
import gzip
import io
import lzma
import re
import stat
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa

from components.config.tars import TarLimits
from components.curate.tars import BadMember, find_unsafe, iter_members, parse_json
from components.errors import SourceError

MAX_MEMBER = 64 << 20
"""Bytes of a member at most; a larger one is left out (a bomb, or no sample)."""
MAX_UNPACKED = 16 << 30
"""Bytes that a package may unpack to."""
XZ_MEMORY = 256 << 20
"""What xz may take; its strongest setting needs 65 MB."""
DAMAGE = ("truncated_archive", "corrupt_archive")
"""Reasons that concern the package and not a member."""
BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    EOFError,
    OSError,
    pa.ArrowInvalid,
    ValueError,
    zlib.error,
    lzma.LZMAError,
    RuntimeError,  # a zip with a password, or with a compression that is not known
)
AR_MAGIC, AR_HEADER = b"!<arch>\n", 60


def members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Every regular file of an archive: name and content.

    Raises:
        SourceError: it is not an archive of a kind that is known, it is damaged, or it unpacks to more than
            `MAX_UNPACKED` bytes.
    """
    with _named(path), path.open("rb") as file:
        if path.suffix in (".whl", ".zip"):
            yield from _zip_members(file)
        elif path.suffix == ".deb":
            yield from _tar_members(_open_deb(file, "data.tar"))
        else:
            yield from _tar_members(file)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors of readers as one that names the package."""
    try:
        yield
    except BROKEN as error:
        raise SourceError(
            f"the package cannot be read: {error}", where=str(path), fix="delete it; it is fetched again"
        ) from error


def licence(path: Path) -> str:
    """The licence that a package declares; `unknown` where it declares none."""
    if path.suffix == ".whl":
        return _wheel_licence(path)
    if path.suffix == ".deb":
        return _deb_licence(path)
    for name, content in members(path):
        if name == "package/package.json":
            return _npm_licence(parse_json(content, TarLimits()))
    return "unknown"


def _npm_licence(package: object) -> str:
    """`license`, or npm's older form: `licenses`, a list of objects with a `type`."""
    if not isinstance(package, dict):
        return "unknown"
    several = package.get("licenses")
    declared = [package.get("license"), *(several if isinstance(several, list) else [])]
    names = [each.get("type") if isinstance(each, dict) else each for each in declared]
    return "; ".join(dict.fromkeys(str(name) for name in names if name)) or "unknown"


def _zip_members(file: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    limits, seen, unpacked = TarLimits(max_member_bytes=MAX_MEMBER), set[str](), 0
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            name = info.filename
            kind = stat.S_IFMT(info.external_attr >> 16)
            if info.is_dir() or kind not in (0, stat.S_IFREG) or info.file_size > MAX_MEMBER:
                continue
            if name in seen or find_unsafe(name, limits):
                continue
            seen.add(name)
            unpacked += info.file_size
            _assert_bounded(unpacked)
            with archive.open(info) as member:
                yield name, member.read(info.file_size)


def _tar_members(file: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    stream = cast(IO[bytes], _Forward(_decompress(file)))
    for member in iter_members(stream, TarLimits(max_member_bytes=MAX_MEMBER)):
        if not isinstance(member, BadMember):
            content = member.read(stream)
            if len(content) < member.size:
                raise EOFError(f"{member.name} is cut short")
            yield member.name, content
        elif member.reason.code in DAMAGE:
            raise ValueError(f"{member.reason.code}: {member.reason.evidence}")


def _assert_bounded(unpacked: int) -> None:
    if unpacked > MAX_UNPACKED:
        raise ValueError(f"it unpacks to more than {MAX_UNPACKED} bytes")


class _Forward:
    """The output of a decompressor for `iter_members`: it moves forward only, and its end is not known."""

    def __init__(self, file: Any) -> None:
        self.file, self.position = file, 0

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == 2:
            return sys.maxsize
        assert offset >= self.position, "members are read in their order"
        while self.position < offset and self.read(min(offset - self.position, 1 << 20)):
            pass
        return self.position

    def read(self, size: int) -> bytes:
        parts = []
        while size > 0 and (part := self.file.read(size)):
            parts.append(bytes(part))
            size -= len(part)
        content = b"".join(parts)
        self.position += len(content)
        _assert_bounded(self.position)
        return content


class _Part(io.RawIOBase):
    """The next `size` bytes of a file."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self.file, self.left = file, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = self.file.read(min(len(buffer), self.left))
        buffer[: len(part)] = part
        self.left -= len(part)
        return len(part)


class _Xz(io.RawIOBase):
    """Decompressed xz, in bounded memory: `lzma.open` takes what the file asks for."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.unpack = lzma.LZMADecompressor(memlimit=XZ_MEMORY)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self.unpack.eof:
            packed = self.file.read(1 << 16) if self.unpack.needs_input else b""
            if self.unpack.needs_input and not packed:
                raise EOFError("the compressed file ends too early")
            if part := self.unpack.decompress(packed, len(buffer)):
                buffer[: len(part)] = part
                return len(part)
        return 0


def _decompress(file: IO[bytes]) -> Any:
    """A reader of what is in a compressed file, or the file itself."""
    buffered = file if isinstance(file, io.BufferedReader) else io.BufferedReader(cast(Any, file))
    magic = buffered.peek(6)
    if magic.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=buffered)
    if magic.startswith(b"\xfd7zXZ"):
        return io.BufferedReader(_Xz(buffered), 1 << 18)
    if magic.startswith(b"BZh"):
        return bz2.BZ2File(buffered)
    if magic.startswith(b"\x28\xb5\x2f\xfd"):
        return pa.CompressedInputStream(buffered, "zstd")
    return buffered


def _open_deb(file: IO[bytes], wanted: str) -> IO[bytes]:
    """The `data.tar` or `control.tar` in a Debian package, which is an `ar` archive (deb(5))."""
    if file.read(len(AR_MAGIC)) != AR_MAGIC:
        raise ValueError("not a Debian package")
    while header := file.read(AR_HEADER):
        name, size = header[:16].decode("ascii").strip().rstrip("/"), int(header[48:58])
        if size < 0:
            raise ValueError("a part of less than no bytes")
        if name.startswith(wanted):
            return io.BufferedReader(_Part(file, size), 1 << 18)
        file.seek(size + size % 2, 1)
    raise ValueError(f"no {wanted} in it")


def _wheel_licence(wheel: Path) -> str:
    with _named(wheel), zipfile.ZipFile(wheel) as archive:
        found = (info for info in archive.infolist() if info.filename.endswith(".dist-info/METADATA"))
        info = next((each for each in found if each.file_size <= MAX_MEMBER), None)
        content = archive.read(info) if info else b""
    metadata = email.parser.BytesParser().parsebytes(content, headersonly=True)
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
