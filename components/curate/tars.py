"""Read a tar file from strangers: where each member lies, and what is wrong with those that are refused.

    with path.open("rb") as file:
        for member in iter_members(file, TarLimits()):
            if isinstance(member, BadMember):
                quarantine(member.name, member.reason)
            else:
                content = member.read(file)

`tarfile` reads extension headers of any size into memory and calls itself for each of them; here only
headers are read, one after the other, and a member is never opened before somebody asks for it.
"""

from __future__ import annotations

import json
import math
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any, NoReturn, TypeAlias

from components.config.tars import TarLimits
from components.curate.samples import Reason

BLOCK = tarfile.BLOCKSIZE
MAX_EXTENSION = 64 << 10
"""Bytes of a PAX or GNU extension header; what they carry for us is a path and a size."""
ODD = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]")
"""Control characters, backslashes (a separator elsewhere) and bytes that are not UTF-8."""
KINDS = {
    tarfile.LNKTYPE: "hard link",
    tarfile.SYMTYPE: "symbolic link",
    tarfile.CHRTYPE: "character device",
    tarfile.BLKTYPE: "block device",
    tarfile.FIFOTYPE: "pipe",
    tarfile.GNUTYPE_SPARSE: "sparse file",
}
FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
EMPTY = (*(kind for kind in KINDS if kind != tarfile.GNUTYPE_SPARSE), tarfile.DIRTYPE)
"""Types that no data follows."""
PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
EXTENSIONS = (*PAX, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK)
"""Headers about the member that follows; the last two say nothing that we would use."""
SPARSE_EXTENDED, SPARSE_CONTINUES = 482, 504
"""Offsets of the flags that say that another block of an old GNU sparse map follows."""


@dataclass(frozen=True)
class Member:
    """A regular file in a tar: `size` bytes from `offset` of the archive."""

    name: str
    """Relative, without `..`, and not seen before in this archive."""
    offset: int
    size: int

    def read(self, file: IO[bytes]) -> bytes:
        """The content; `file` is the archive."""
        file.seek(self.offset)
        return file.read(self.size)


@dataclass(frozen=True)
class BadMember:
    """A member that is not read. Its name is as it stands in the archive, and empty where none is known."""

    name: str
    reason: Reason


@dataclass
class _Extension:
    """What extension headers said about the member that follows."""

    name: str | None = None
    size: int | None = None
    problem: Reason | None = None


@dataclass
class _Walk:
    """State of one walk over an archive."""

    limits: TarLimits
    end: int
    """Size of the archive."""
    position: int = 0
    """Offset of the next header."""
    names: set[str] = field(default_factory=set)


def iter_members(file: IO[bytes], limits: TarLimits) -> Iterator[Member | BadMember]:
    """Every regular file of an uncompressed tar, in its order; directories are passed over.

    Reason codes: `unsafe_path`, `not_a_file`, `duplicate_name`, `too_large`, `truncated_archive`,
    `corrupt_archive` (a header that does not add up: nothing after it can be found).

    Args:
        file: Seekable; it may be read from and moved between two members.
        limits: Bounds of size, of the length of names and of how many.
    """
    walk = _Walk(limits, end=file.seek(0, 2))
    extension = _Extension()
    for _ in range(limits.max_members):
        block = _read_block(file, walk)
        if len(block) < BLOCK:
            evidence = f"{len(block)} bytes of a header" if block else "no end-of-archive mark"
            yield BadMember("", Reason("truncated_archive", evidence=evidence))
            return
        if not any(block):
            return
        header = walk.position
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            walk.position += BLOCK
            size = _size(info, extension)
        except (tarfile.HeaderError, ValueError) as error:
            evidence = f"at byte {header}: {error}"
            yield BadMember("", Reason("corrupt_archive", evidence=evidence))
            return
        if info.type == tarfile.GNUTYPE_SPARSE and block[SPARSE_EXTENDED]:
            _skip_sparse(file, walk)
        begin = walk.position
        walk.position += _padded(size)
        if info.type in EXTENSIONS:
            _extend(extension, info, file)
            continue
        if info.type != tarfile.DIRTYPE:
            found = _judge(walk, info, extension, Member(extension.name or info.name, begin, size))
            yield found
            if isinstance(found, BadMember) and found.reason.code == "truncated_archive":
                return
        extension = _Extension()
    yield BadMember("", Reason("too_large", evidence=f"more than {limits.max_members} headers"))


def _read_block(file: IO[bytes], walk: _Walk) -> bytes:
    """512 bytes at the walk's position, fewer where the archive ends."""
    if walk.position >= walk.end:
        return b""
    file.seek(walk.position)
    return file.read(BLOCK)


def _size(info: tarfile.TarInfo, extension: _Extension) -> int:
    """Bytes that follow a header: links and devices have none, whatever they state.

    Raises:
        ValueError: below zero.
    """
    size = info.size
    if info.type not in EXTENSIONS and extension.size is not None:
        size = extension.size
    if size < 0:
        raise ValueError("a size below 0")
    return 0 if info.type in EMPTY else size


def _skip_sparse(file: IO[bytes], walk: _Walk) -> None:
    """Pass the blocks that continue the map of an old GNU sparse file."""
    more = True
    while more:
        block = _read_block(file, walk)
        walk.position += BLOCK
        more = len(block) == BLOCK and block[SPARSE_CONTINUES] != 0


def _judge(walk: _Walk, info: tarfile.TarInfo, extension: _Extension, member: Member) -> Member | BadMember:
    """The member with its name cleaned, or why it is refused."""
    shown = member.name.encode("utf-8", "backslashreplace").decode()[:200]
    reason = extension.problem or _find_kind(info) or find_unsafe(member.name, walk.limits)
    if reason:
        return BadMember(shown, reason)
    name = "/".join(part for part in member.name.split("/") if part not in ("", "."))
    if name in walk.names:
        return BadMember(shown, Reason("duplicate_name", evidence=name))
    walk.names.add(name)
    if member.size > walk.limits.max_member_bytes:
        return BadMember(shown, Reason("too_large", evidence=f"{member.size} bytes"))
    if member.offset + member.size > walk.end:
        missing = f"{walk.end - member.offset} of {member.size} bytes"
        return BadMember(shown, Reason("truncated_archive", evidence=missing))
    return Member(name, member.offset, member.size)


def _find_kind(info: tarfile.TarInfo) -> Reason | None:
    if info.type in FILES:
        return None
    kind = KINDS.get(info.type, f"type {info.type!r}")
    target = f" to {info.linkname[:200]}" if info.linkname else ""
    return Reason("not_a_file", evidence=(kind + target).encode("utf-8", "backslashreplace").decode())


def find_unsafe(name: str, limits: TarLimits) -> Reason | None:
    """A path that leaves the archive, or that no file system or database would take."""
    if len(name.encode("utf-8", "surrogateescape")) > limits.max_name_bytes:
        return Reason("unsafe_path", evidence=f"longer than {limits.max_name_bytes} bytes")
    if name.startswith("/") or re.match("[A-Za-z]:", name):
        return Reason("unsafe_path", evidence="absolute")
    if ".." in name.split("/"):
        return Reason("unsafe_path", evidence="leaves the archive")
    if odd := ODD.search(name):
        return Reason("unsafe_path", evidence=f"character {odd.group()!a}")
    if not name.strip("/."):
        return Reason("unsafe_path", evidence="no name")
    return None


def _extend(extension: _Extension, info: tarfile.TarInfo, file: IO[bytes]) -> None:
    """Take name and size from an extension header (`file` stands at its content)."""
    if info.type not in (*PAX, tarfile.GNUTYPE_LONGNAME):
        return
    if info.size > MAX_EXTENSION:
        extension.problem = Reason("too_large", evidence=f"extension header of {info.size} bytes")
        return
    content = file.read(info.size)
    if info.type == tarfile.GNUTYPE_LONGNAME:
        extension.name = content.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
        return
    try:
        for key, value in _parse_pax(content):
            if key == b"path":
                extension.name = value.decode("utf-8", "surrogateescape")
            elif key == b"size":
                extension.size = int(value)
            elif key.startswith(b"GNU.sparse."):
                extension.problem = Reason("not_a_file", evidence="sparse file")
    except ValueError as error:
        extension.problem = Reason("corrupt_archive", evidence=f"extension header: {error}")


def _parse_pax(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Records `LENGTH KEY=VALUE\\n` of a PAX header (POSIX.1-2001).

    Raises:
        ValueError: a record is not of that form.
    """
    while content:
        length, space, _ = content[:16].partition(b" ")
        if not (space and length.isdigit()) or int(length) > len(content):
            raise ValueError("a record of no length, or of more than there is")
        record, content = content[len(length) + 1 : int(length)], content[int(length) :]
        key, equals, value = record.partition(b"=")
        if not (equals and value.endswith(b"\n")):
            raise ValueError("a record that does not end where it says")
        yield key, value[:-1]


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


Json: TypeAlias = dict[str, Any]
NESTING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[{]|[\]}]', re.DOTALL)


class _Refused(ValueError):
    """Carries the reason out of the JSON parser's hooks."""

    def __init__(self, code: str, evidence: str) -> None:
        super().__init__(code)
        self.reason = Reason(code, evidence=evidence)


def parse_json(content: bytes, limits: TarLimits) -> Json | Reason:
    """A JSON object from strangers that can be stored again as it is.

    Reason codes: `json_too_large`, `json_too_deep`, `invalid_utf8`, `json_syntax`, `json_not_finite` (NaN,
    Infinity, or a number beyond a double), `json_duplicate_key`, `json_surrogate` (half of a surrogate
    pair, which no UTF-8 file can hold), `json_not_an_object`.
    """
    if len(content) > limits.max_json_bytes:
        return Reason("json_too_large", evidence=f"{len(content)} bytes")
    if _depth(content, limits.max_json_depth) > limits.max_json_depth:
        return Reason("json_too_deep", evidence=f"more than {limits.max_json_depth} levels")
    try:
        text = content.decode("utf-8-sig")
        parsed = json.loads(
            text, parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_unique
        )
        if r"\u" in text:
            json.dumps(parsed, ensure_ascii=False).encode()
    except _Refused as refused:
        return refused.reason
    except UnicodeDecodeError as error:
        return Reason("invalid_utf8", evidence=f"byte {error.start}: {error.reason}")
    except UnicodeEncodeError as error:
        return Reason("json_surrogate", evidence=ascii(error.object[error.start : error.end]))
    except ValueError as error:
        return Reason("json_syntax", evidence=str(error))
    if not isinstance(parsed, dict):
        return Reason("json_not_an_object", evidence=type(parsed).__name__)
    return parsed


def _depth(content: bytes, enough: int) -> int:
    """How deep brackets nest outside of strings, counted no further than one past `enough`.

    Counted before parsing: the parser's own bound is the stack that its caller has left.
    """
    if content.count(b"[") + content.count(b"{") <= enough:
        return 0
    depth = deepest = 0
    for token in NESTING.finditer(content):
        first = token.group()[:1]
        if first != b'"':
            depth += 1 if first in b"[{" else -1
            deepest = max(deepest, depth)
            if deepest > enough:
                break
    return deepest


def _refuse_constant(name: str) -> NoReturn:
    raise _Refused("json_not_finite", name)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _Refused("json_not_finite", text[:40])
    return number


def _unique(pairs: list[tuple[str, Any]]) -> Json:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _Refused("json_duplicate_key", ascii(twice)[:80])
    return unique
