"""Write tar files that are the same bytes on every run and machine, at the speed of the disk.

USTAR headers with integer zero times, no owners, no PAX records. `tarfile` makes each header anew from a
dozen fields; here only the name, the size and the checksum differ from a template, and a whole shard is
written in a few calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

BLOCK = 512
RECORD = 20 * BLOCK
"""A tar file ends with zeros up to a multiple of this, as tar and `tarfile` write it."""
MAX_NAME = 100
MAX_SIZE = 8**11 - 1
FLUSH = 4 << 20
"""Bytes gathered before they are written."""
_AFTER_NAME = b"0000644\0" + b"0000000\0" * 2
_AFTER_SIZE = b"00000000000\0"
_AFTER_CHECKSUM = (b"0" + bytes(100) + b"ustar\0" + b"00" + bytes(64)).ljust(BLOCK - 156, b"\0")
_CONSTANT = sum(_AFTER_NAME + _AFTER_SIZE + _AFTER_CHECKSUM) + 8 * ord(" ")


@dataclass(frozen=True)
class Entry:
    """Where a member's data lies in the tar."""

    name: str
    offset: int
    size: int


def header(name: bytes, size: int) -> bytes:
    """The USTAR header block of a regular file (POSIX.1-1988)."""
    assert 0 < len(name) <= MAX_NAME and size <= MAX_SIZE, f"{name!r} of {size} bytes does not fit USTAR"
    digits = b"%011o\0" % size
    checksum = _CONSTANT + sum(name) + sum(digits)
    parts = (name.ljust(MAX_NAME, b"\0"), _AFTER_NAME, digits, _AFTER_SIZE)
    return b"".join((*parts, b"%06o\0 " % checksum, _AFTER_CHECKSUM))


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> list[Entry]:
    """Write `members` (name, content) in their order; the file is not renamed, so write beside its place."""
    entries = []
    with path.open("wb", buffering=0) as file:
        offset, gathered, pending = 0, list[bytes](), 0
        for name, content in members:
            size = len(content)
            padding = -size % BLOCK
            gathered += (header(name.encode(), size), content, bytes(padding))
            entries.append(Entry(name, offset + BLOCK, size))
            offset += BLOCK + size + padding
            pending += BLOCK + size + padding
            if pending >= FLUSH:
                file.write(b"".join(gathered))
                gathered, pending = [], 0
        end = 2 * BLOCK
        end += -(offset + end) % RECORD
        file.write(b"".join((*gathered, bytes(end))))
    return entries


def write_index(path: Path, samples: Sequence[Sequence[Entry]]) -> None:
    """The index of a tar: where each member of each sample lies, as NVIDIA DALI's `wds2idx` writes it.

    A line a sample, of `extension offset size name` for each of its members.
    """
    lines = [f"v1.2 {len(samples)}"]
    for entries in samples:
        parts = [(each.name.partition(".")[2], each.offset, each.size, each.name) for each in entries]
        lines.append(" ".join(" ".join(map(str, part)) for part in parts))
    path.write_text("".join(f"{line}\n" for line in lines))
