"""What the header of an encoded picture says, and whether that lets it be decoded.

The format is decided by the content, never by the name, and nothing here opens a decoder. `examine` then
asserts that the decoder sees the same size.
"""

from __future__ import annotations

import struct
from pathlib import PurePath

from components.config.images import ImageLimits
from components.curate.image_containers import PARSERS, Header, Unsound
from components.curate.samples import Reason

EXTENSIONS: dict[str, tuple[str, ...]] = {
    "jpeg": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "png": (".png", ".apng"),
    "webp": (".webp",),
    "gif": (".gif",),
    "bmp": (".bmp", ".dib"),
    "tiff": (".tif", ".tiff"),
    "avif": (".avif",),
    "heif": (".heic", ".heif"),
    "ico": (".ico",),
    "jp2": (".jp2", ".j2k"),
    "jxl": (".jxl",),
    "pdf": (".pdf",),
    "psd": (".psd",),
    "svg": (".svg",),
}
"""Format → what its files are called."""
NAMED = frozenset(extension for extensions in EXTENSIONS.values() for extension in extensions)
SIGNATURES = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "bigtiff"),
    (b"MM\0+", "bigtiff"),
    (b"BM", "bmp"),
    (b"\0\0\1\0", "ico"),
    (b"\0\0\2\0", "cur"),
    (b"8BPS", "psd"),
    (b"%PDF", "pdf"),
    (b"\xff\x0a", "jxl"),
    (b"\0\0\0\x0cJXL ", "jxl"),
    (b"\0\0\0\x0cjP  ", "jp2"),
    (b"\xff\x4f\xff\x51", "jp2"),
)
HELD = {"webp": 4}
"""Copies of the pixels that a decoder holds: libwebp's canvas, the one before it, and two of Pillow's."""


def read_header(content: bytes, limits: ImageLimits) -> Header | Reason:
    """The header of a picture within the limits, or why it is not decoded.

    Reason codes: `empty_file`, `unknown_format`, `format_not_allowed`, `too_small`, `too_large` (bytes or
    side), `decompression_bomb` (pixels), `aspect`, `animated`, `truncated`, `corrupt`, `unsupported_pixels`.
    """
    if not content:
        return Reason("empty_file")
    if len(content) > limits.max_bytes:
        return Reason("too_large", evidence=f"{len(content)} bytes")
    kind = detect_format(content)
    if not kind:
        return Reason("unknown_format", evidence=f"begins with {content[:16]!r}")
    if kind not in limits.formats:
        return Reason("format_not_allowed", evidence=kind)
    try:
        header = PARSERS[kind](content)
    except Unsound as unsound:
        return unsound.reason
    except struct.error:
        return Reason("truncated", evidence=f"ends inside the {kind} header, after {len(content)} bytes")
    return _judge(header, limits) or header


def detect_format(content: bytes) -> str:
    """Name of the format that the first bytes show, also of formats that are not decoded; empty: unknown."""
    for signature, kind in SIGNATURES:
        if content.startswith(signature):
            return kind
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "webp"
    if content[4:8] == b"ftyp":
        brand = content[8:12]
        return "avif" if brand in (b"avif", b"avis") else "heif" if brand[:2] in (b"he", b"mi", b"ms") else ""
    beginning = content[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return "svg" if beginning.startswith((b"<svg", b"<?xml")) and b"<svg" in beginning else ""


def is_misnamed(name: str, header: Header) -> bool:
    """Whether a file name's extension is that of another format; one that is no format's says nothing."""
    extension = PurePath(name).suffix.lower()
    return extension in NAMED and extension not in EXTENSIONS[header.format]


def _judge(header: Header, limits: ImageLimits) -> Reason | None:
    width, height = header.width, header.height
    shown = f"{width}×{height}"
    short, long = sorted((width, height))
    if short < 1:
        return Reason("corrupt", evidence=f"no pixels: {shown}")
    if width * height * HELD.get(header.format, 1) > limits.max_pixels:
        return Reason("decompression_bomb", evidence=shown)
    if long > limits.max_side:
        return Reason("too_large", evidence=shown)
    if short < limits.min_side:
        return Reason("too_small", evidence=shown)
    if long > short * limits.max_aspect:
        return Reason("aspect", evidence=shown)
    if header.frames > 1 and limits.animated == "reject":
        return Reason("animated", evidence=f"{header.frames} frames")
    return None
