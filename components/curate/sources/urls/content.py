"""What came: opt-outs in the headers, content encodings within bounds, pictures by their first bytes."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable

from components.curate.sources.urls.outcome import Failed

OPT_OUTS = frozenset({"noai", "noimageai", "noindex", "noimageindex"})
"""The directives that img2dataset leaves pictures for (its `disallowed_header_directives`)."""
HEAD = 16
"""Bytes that tell a picture."""
MAGIC = (
    (b"\xff\xd8\xff", "jpg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"BM", "bmp"),
    (b"II*\0", "tif"),
    (b"MM\0*", "tif"),
)


def image_format(head: bytes) -> str:
    """Suffix of the picture that begins with these bytes; empty where it is none that is decoded here."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[4:12] in (b"ftypavif", b"ftypavis"):
        return "avif"
    return next((suffix for magic, suffix in MAGIC if head.startswith(magic)), "")


def opt_out(headers: Iterable[str], agent: str) -> str:
    """The directive of `X-Robots-Tag` by which a server asks not to be used, or nothing.

    `noai` holds for everyone, `name: noai` for the agent of that name; a name holds up to the next one.
    """
    for value in headers:
        addressed = ""
        for part in value.lower().split(","):
            name, colon, rest = part.partition(":")
            if colon:
                addressed = name.strip()
            directive = (rest if colon else part).strip()
            if directive in OPT_OUTS and addressed in ("", agent.lower()):
                return directive
    return ""


class Body:
    """Gathers a body piece by piece; refuses it as soon as it is too large, or shows to be no picture."""

    def __init__(self, *, encoding: str, declared: int | None, max_bytes: int) -> None:
        """
        Args:
            encoding: `Content-Encoding`. `identity` was asked for; gzip and deflate are read all the same.
            declared: `Content-Length`, where there is one. It is believed only when it is too large.
            max_bytes: As sent, and again as decoded: a small body may decode to gigabytes.
        """
        encoding = encoding.strip().lower()
        if encoding not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise Failed("bad_encoding", encoding[:40])
        if declared is not None and declared > max_bytes:
            raise Failed("too_large", f"Content-Length {declared}")
        # 47: zlib finds out itself whether the header is gzip's or zlib's
        self._decoder = zlib.decompressobj(47) if encoding not in ("", "identity") else None
        self._max, self._sent, self._size = max_bytes, 0, 0
        self._pieces: list[bytes] = []
        self.format = ""

    def feed(self, data: bytes) -> None:
        """
        Raises:
            Failed: `too_large`, `bad_encoding` or `not_an_image`.
        """
        self._sent += len(data)
        if self._decoder is not None:
            try:
                data = self._decoder.decompress(data, self._max - self._size + 1)
            except zlib.error as error:
                raise Failed("bad_encoding", str(error)[:200]) from error
        self._size += len(data)
        if max(self._sent, self._size) > self._max:
            raise Failed("too_large", f"more than {self._max} bytes")
        self._pieces.append(data)
        if not self.format and self._size >= HEAD:
            self._tell()

    def finish(self) -> bytes:
        """
        Raises:
            Failed: `empty`, `not_an_image`, or `truncated` where the encoding has no end.
        """
        if self._decoder is not None and not self._decoder.eof:
            raise Failed("truncated", "the compressed body has no end", transient=True)
        if not self._size:
            raise Failed("empty")
        if not self.format:
            self._tell()
        return b"".join(self._pieces)

    def _tell(self) -> None:
        head = b"".join(self._pieces)[:HEAD]
        self.format = image_format(head)
        if not self.format:
            raise Failed("not_an_image", re.sub(r"\\x00", ".", repr(head)[2:-1]))
