"""Walk the containers of encoded pictures for what they state, without decoding a pixel.

Each parser walks its container once, with a bound on every loop, and finds what would make a decoder slow
or hungry later: declared sizes, thousands of scans, megabytes of junk between markers, index tables of
millions of entries.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from components.curate.samples import Reason

Mode: TypeAlias = Literal["gray", "gray_alpha", "rgb", "rgb_alpha", "palette", "cmyk"]
MAX_SEGMENTS = 1_000
"""JPEG segments before the pixels: a colour profile, metadata and previews take some tens."""
MAX_JUNK = 4_096
"""Bytes between two JPEG markers; Pillow passes over them one at a time."""
MAX_SCANS = 100
"""Passes of a progressive JPEG; encoders write about ten."""
MAX_CHUNKS = 65_536
"""PNG and WebP chunks, GIF blocks and TIFF fields that are walked."""
MAX_FRAMES = 1_000
"""Frames are counted up to here."""
MAX_TILE = 1 << 24
"""Pixels of a TIFF tile; writers use 65,536 or fewer."""
MAX_VALUES = 200_000
"""Values of a TIFF field, bytes and text aside: a strip for each row of the largest picture."""


@dataclass(frozen=True)
class Header:
    """What a picture says about itself."""

    format: str
    """As the content says."""
    width: int
    height: int
    """As shown, after the orientation is applied."""
    orientation: int
    """EXIF orientation, 1 to 8; 1 is upright."""
    frames: int
    """Frames or pages, counted up to `MAX_FRAMES`."""
    mode: Mode
    bits: int
    """Bits of a channel."""
    progressive: bool = False
    """JPEG in several scans: the decoder holds coefficients for the whole picture."""

    @property
    def stored(self) -> tuple[int, int]:
        """Width and height as stored, before the orientation is applied."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


class Unsound(Exception):
    """Carries a reason out of a parser."""

    def __init__(self, code: str, evidence: str) -> None:
        super().__init__(code)
        self.reason = Reason(code, evidence=evidence)


def _jpeg(content: bytes) -> Header:
    """Segments up to the first scan (ITU-T T.81, annex B)."""
    frame: tuple[int, int, int, int, int] | None = None
    orientation = 1
    for marker, at, length in _jpeg_segments(content):
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if frame:
                raise Unsound("corrupt", "two frame headers")
            frame = (marker, *struct.unpack_from(">BHHB", content, at))
        elif marker == 0xE1 and content.startswith(b"Exif\0\0", at):
            orientation = _exif_orientation(content[at + 6 : at + length])
    if frame is None:
        raise Unsound("corrupt", "no frame header before the pixels")
    kind, bits, height, width, channels = frame
    progressive = kind in (0xC2, 0xC6, 0xCA, 0xCE)
    if progressive and (scans := content.count(b"\xff\xda")) > MAX_SCANS:
        raise Unsound("decompression_bomb", f"{scans} scans")
    modes: dict[int, Mode] = {1: "gray", 3: "rgb", 4: "cmyk"}
    if channels not in modes or bits != 8:
        raise Unsound("unsupported_pixels", f"{channels} channels of {bits} bits")
    return _oriented(Header("jpeg", width, height, orientation, 1, modes[channels], bits, progressive))


def _jpeg_segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, offset and length of each segment, up to the start of the first scan."""
    at = 2
    for _ in range(MAX_SEGMENTS):
        begin = at
        at = content.find(b"\xff", at)
        while at >= 0 and content[at + 1 : at + 2] in (b"\xff", b"\0"):
            at = content.find(b"\xff", at + 1)
            if at - begin > MAX_JUNK:
                break
        if at < 0:
            raise Unsound("truncated", "ends before the pixels")
        if at - begin > MAX_JUNK:
            raise Unsound("corrupt", f"more than {MAX_JUNK} bytes between two markers")
        marker, length = struct.unpack_from(">xBH", content, at)
        if marker == 0xDA:
            return
        if marker == 0xD9:
            raise Unsound("corrupt", "ends before the pixels")
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            at += 2
            continue
        if length < 2:
            raise Unsound("corrupt", "a segment shorter than its own length")
        yield marker, at + 4, length - 2
        at += 2 + length
    raise Unsound("corrupt", f"more than {MAX_SEGMENTS} segments")


def _png(content: bytes) -> Header:
    """All chunks up to the end of the file (W3C PNG, third edition)."""
    if content[8:16] != b"\0\0\0\rIHDR":
        raise Unsound("corrupt", "does not begin with its header")
    width, height, bits, colour = struct.unpack_from(">IIBB", content, 16)
    modes: dict[int, Mode] = {0: "gray", 2: "rgb", 3: "palette", 4: "gray_alpha", 6: "rgb_alpha"}
    if colour not in modes:
        raise Unsound("corrupt", f"colour type {colour}")
    orientation = frames = 1
    at = 8
    for _ in range(MAX_CHUNKS):
        length, kind = struct.unpack_from(">I4s", content, at)
        if kind == b"IEND":
            header = Header("png", width, height, orientation, frames, modes[colour], bits)
            return _oriented(header)
        if at + 12 + length > len(content):
            raise Unsound("truncated", f"inside {kind!r}")
        if kind == b"acTL":
            frames = max(1, min(struct.unpack_from(">I", content, at + 8)[0], MAX_FRAMES))
        elif kind == b"eXIf":
            orientation = _exif_orientation(content[at + 8 : at + 8 + length])
        at += 12 + length
    raise Unsound("corrupt", f"more than {MAX_CHUNKS} chunks")


def _gif(content: bytes) -> Header:
    """Blocks of a GIF; the first frame may be larger than the screen that the header states."""
    width, height, flags = struct.unpack_from("<HHB", content, 6)
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    frames = 0
    for _ in range(MAX_CHUNKS):
        kind = content[at : at + 1]
        if kind == b"!":
            at = _skip_blocks(content, at + 2)
        elif kind == b"," and frames < MAX_FRAMES:
            left, top, wide, high, local = struct.unpack_from("<HHHHB", content, at + 1)
            at = _skip_blocks(content, at + 11 + (3 << (local & 7) + 1 if local & 0x80 else 0))
            if not frames:
                width, height = max(width, left + wide), max(height, top + high)
                if at < 0:
                    raise Unsound("truncated", "inside the first frame")
            frames += 1
        else:
            break
        if at < 0:
            break
    if not frames:
        raise Unsound("truncated" if at < 0 or not kind else "corrupt", "no frame")
    return Header("gif", width, height, 1, frames, "palette", 8)


def _skip_blocks(content: bytes, at: int) -> int:
    """Offset behind a row of GIF sub-blocks; below 0 where the file ends first."""
    try:
        while size := content[at]:
            at += 1 + size
    except IndexError:
        return -1
    return at + 1


def _webp(content: bytes) -> Header:
    """RIFF chunks (RFC 9649)."""
    (declared,) = struct.unpack_from("<I", content, 4)
    kind = content[12:16]
    orientation = frames = 1
    if kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", content, 26))
        mode: Mode = "rgb"
    elif kind == b"VP8L":
        (packed,) = struct.unpack_from("<I", content, 21)
        width, height = (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
        mode = "rgb_alpha" if packed >> 28 & 1 else "rgb"
    elif kind == b"VP8X":
        flags, wide, high, wide_top, high_top = _webp_canvas(content)
        width, height = (wide | wide_top << 16) + 1, (high | high_top << 16) + 1
        mode = "rgb_alpha" if flags & 0x10 else "rgb"
        frames, orientation = _webp_chunks(content)
    else:
        raise Unsound("corrupt", f"begins with {kind!r}")
    if declared + 8 > len(content):
        raise Unsound("truncated", f"{len(content)} of {declared + 8} bytes")
    return _oriented(Header("webp", width, height, orientation, frames, mode, 8))


def _webp_canvas(content: bytes) -> tuple[int, int, int, int, int]:
    flags, wide, wide_top, high, high_top = struct.unpack_from("<B3xHBHB", content, 20)
    return flags, wide, high, wide_top, high_top


def _webp_chunks(content: bytes) -> tuple[int, int]:
    """Frames and orientation of an extended WebP."""
    frames, orientation, at = 0, 1, 30
    for _ in range(MAX_CHUNKS):
        if at + 8 > len(content):
            return max(1, min(frames, MAX_FRAMES)), orientation
        kind, size = struct.unpack_from("<4sI", content, at)
        frames += kind == b"ANMF"
        if kind == b"EXIF":
            orientation = _exif_orientation(content[at + 8 : at + 8 + size].removeprefix(b"Exif\0\0"))
        at += 8 + size + size % 2
    raise Unsound("corrupt", f"more than {MAX_CHUNKS} chunks")


def _bmp(content: bytes) -> Header:
    (size,) = struct.unpack_from("<I", content, 14)
    if size == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", content, 18)
        compression = 0
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", content, 18)
    if compression not in (0, 3):
        # Pillow undoes run lengths in Python, a pixel at a time.
        raise Unsound("unsupported_pixels", f"BMP compression {compression}")
    if width < 1:
        raise Unsound("corrupt", f"a width of {width}")
    mode: Mode = "palette" if bits <= 8 else "rgb"
    return Header("bmp", width, abs(height), 1, 1, mode, min(bits, 8))


def _tiff(content: bytes) -> Header:
    """The first directory (TIFF 6.0), and how many follow."""
    fields = _tiff_fields(content)
    width, height = fields.get(256, 0), fields.get(257, 0)
    if (compression := fields.get(259, 1)) not in TIFF_COMPRESSIONS:
        raise Unsound("unsupported_pixels", f"TIFF compression {compression}")
    tile = fields.get(322, 1) * fields.get(323, 1)
    if tile > MAX_TILE:
        raise Unsound("decompression_bomb", f"tiles of {tile} pixels")
    modes: dict[int, Mode] = {0: "gray", 1: "gray", 3: "palette", 5: "cmyk"}
    header = Header(
        format="tiff",
        width=width,
        height=height,
        orientation=fields.get(274, 1),
        frames=_tiff_pages(content),
        mode=modes.get(fields.get(262, 1), "rgb"),
        bits=fields.get(258, 1),
    )
    return _oriented(header)


TIFF_COMPRESSIONS = (1, 2, 3, 4, 5, 7, 8, 32773, 32946)
"""None, CCITT, LZW, JPEG, deflate, PackBits: what scanners and cameras write."""
TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
"""Bytes of a value, by type."""


def _tiff_fields(content: bytes) -> dict[int, int]:
    """First value of each whole-number field of the first directory.

    Also reads EXIF, which is a TIFF.
    """
    order = "<" if content[:2] == b"II" else ">"
    (at,) = struct.unpack_from(f"{order}I", content, 4)
    (count,) = struct.unpack_from(f"{order}H", content, at)
    fields: dict[int, int] = {}
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind, values = struct.unpack_from(f"{order}HHI", content, entry)
        if values > MAX_VALUES and kind not in (1, 2, 6, 7):
            raise Unsound("decompression_bomb", f"a TIFF field of {values} values")
        if kind in (3, 4) and values:
            code = "H" if kind == 3 else "I"
            place = entry + 8
            if values * TIFF_SIZES[kind] > 4:
                (place,) = struct.unpack_from(f"{order}I", content, place)
            (fields[tag],) = struct.unpack_from(f"{order}{code}", content, place)
    return fields


def _tiff_pages(content: bytes) -> int:
    """Directories in the chain, counted up to `MAX_FRAMES`."""
    order = "<" if content[:2] == b"II" else ">"
    (at,) = struct.unpack_from(f"{order}I", content, 4)
    pages, seen = 0, set[int]()
    while at and at not in seen and at + 2 <= len(content) and pages < MAX_FRAMES:
        seen.add(at)
        pages += 1
        (count,) = struct.unpack_from(f"{order}H", content, at)
        following = at + 2 + 12 * count
        at = struct.unpack_from(f"{order}I", content, following)[0] if following + 4 <= len(content) else 0
    return pages


def _exif_orientation(exif: bytes) -> int:
    """EXIF orientation, 1 where there is none that can be read: a broken preview is no broken picture."""
    if exif[:4] not in (b"II*\0", b"MM\0*"):
        return 1
    try:
        orientation = _tiff_fields(exif).get(274, 1)
    except (struct.error, Unsound):
        return 1
    return orientation if 1 <= orientation <= 8 else 1


def _oriented(header: Header) -> Header:
    """The header with width and height as shown instead of as stored."""
    if not 1 <= header.orientation <= 8:
        return replace(header, orientation=1)
    if header.orientation < 5:
        return header
    return replace(header, width=header.height, height=header.width)


PARSERS: dict[str, Callable[[bytes], Header]] = {
    "jpeg": _jpeg,
    "png": _png,
    "gif": _gif,
    "webp": _webp,
    "bmp": _bmp,
    "tiff": _tiff,
}
