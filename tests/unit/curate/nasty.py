"""Nasty pictures, made by code: what a crawl of the web, a broken disk or an enemy puts into a dataset.

`NASTY` maps a name to how to make the bytes and to the reason code that `read_header` or `examine` must end
with; `ok` for files that only look odd. Tars, JSON and SVG of the same kind are in `nasty_archives`.
"""

from __future__ import annotations

import functools
import io
import random
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageOps

WIDTH, HEIGHT = 1200, 900
"""Large enough for a JPEG to be decoded at a quarter of its size."""


@dataclass(frozen=True)
class Nasty:
    """A file and what must become of it."""

    make: Callable[[], bytes]
    expected: str
    """Reason code, or `ok`."""


@functools.cache
def photo(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """A smooth colourful picture with edges and a little noise, no side like another."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [255 * x / width, 255 * y / height, 127 + 100 * np.sin(x / 37) * np.cos(y / 23)]
    noise = np.random.default_rng(0).normal(0, 3, (height, width, 3))
    image = Image.fromarray((np.stack(planes, axis=2) + noise).clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.rectangle((width // 10, height // 10, width // 3, height // 2), fill="darkred")
    draw.ellipse((width // 2, height // 3, width - width // 10, height - height // 10), fill="gold")
    return image


def save(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    if kind == "PNG":
        options.setdefault("compress_level", 1)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(**options: object) -> bytes:
    return save(photo(), "JPEG", **({"quality": 88} | options))


def turned(orientation: int, kind: str = "JPEG") -> bytes:
    """The photo stored so that only its EXIF orientation sets it upright."""
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    """Pillow's transposition that undoes each orientation."""
    stored = photo().transpose(Image.Transpose(back[orientation])) if orientation > 1 else photo()
    exif = Image.Exif()
    exif[0x0112] = orientation
    return save(stored, kind, exif=exif, quality=88)


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png(width: int, height: int, *, bits: int, colour: int, rows: bytes | None, extra: bytes = b"") -> bytes:
    """A PNG written by hand; without rows its pixels are all zero and are really all there."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    stride = 1 + (width * bits * channels + 7) // 8
    packed = zlib.compress(rows, 6) if rows is not None else deflated_zeros(stride * height)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    end = chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", packed) + end


@functools.cache
def deflated_zeros(size: int) -> bytes:
    """`size` zeros as a zlib stream, about a thousandth of that, without holding them."""
    packer, block = zlib.compressobj(1), bytes(1 << 20)
    parts = [packer.compress(block) for _ in range(size >> 20)]
    return b"".join((*parts, packer.compress(bytes(size & (1 << 20) - 1)), packer.flush()))


def gray_16_bit(kind: str) -> bytes:
    """A ramp over all 16 bits: clipped to 8 bits, nearly all of it would be white."""
    ramp = np.linspace(0, 65535, 300 * 200).reshape(200, 300).astype(np.uint16)
    return save(Image.fromarray(ramp), kind)


def rgb_16_bit_png() -> bytes:
    ramp = np.linspace(0, 65535, 300 * 200 * 3).reshape(200, 900).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in ramp)
    return png(300, 200, bits=16, colour=2, rows=rows)


def ycck_jpeg() -> bytes:
    """The photo as an Adobe YCCK JPEG; Pillow writes CMYK only, so its transform flag is changed."""
    y_cb_cr = np.asarray(ImageOps.invert(photo()).convert("YCbCr"))  # cyan is what red leaves
    black = np.zeros(y_cb_cr.shape[:2], np.uint8)
    # Pillow writes channels inverted; with the transform flag they are taken for Y, Cb, Cr and K.
    luma, blue, red = (255 - y_cb_cr[..., channel] for channel in range(3))
    planes = np.dstack([luma, blue, red, black])
    content = save(Image.fromarray(planes, "CMYK"), "JPEG", quality=95, subsampling=0)
    at = content.index(b"Adobe") + 11
    return content[:at] + b"\2" + content[at + 1 :]


def palette_png() -> bytes:
    """A transparent colour in a palette: red left, nothing right."""
    image = Image.new("P", (64, 64))
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.paste(1, (32, 0, 64, 64))
    return save(image, "PNG", transparency=1)


def gray_alpha_png() -> bytes:
    image = Image.new("LA", (64, 64), (40, 255))
    image.paste((0, 0), (32, 0, 64, 64))
    return save(image, "PNG")


def rgba(kind: str, **options: object) -> bytes:
    image = photo(400, 300).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize((400, 300)))
    return save(image, kind, **options)


def animation(kind: str) -> bytes:
    """Three frames, red, green and blue, each with a black bar that tells top from bottom."""
    frames = []
    for colour in ("red", "lime", "blue"):
        frame = Image.new("RGB", (80, 60), colour)
        frame.paste("black", (0, 0, 80, 10))
        frames.append(frame)
    return save(frames[0], kind, save_all=True, append_images=frames[1:], duration=50)


def cut(content: bytes, share: float) -> bytes:
    return content[: int(len(content) * share)]


def with_hole(content: bytes, start: float, size: int) -> bytes:
    """`size` bytes from the place at `start` (a share of the length) are lost, what follows is not."""
    at = int(len(content) * start)
    return content[:at] + content[at + size :]


def lost_restart(content: bytes, *, rows: int = 0) -> bytes:
    """The third restart marker (of one a row of blocks), or so many rows from it on, are lost."""
    at = content.index(b"\xff\xd2")
    return content[:at] + content[content.index(bytes([0xFF, 0xD2 + rows])) if rows else at + 2 :]


def zeroed(content: bytes, start: float, size: int) -> bytes:
    """`size` bytes that were never written, as after a broken download."""
    at = int(len(content) * start)
    return content[:at] + bytes(size) + content[at + size :]


def gif(canvas: tuple[int, int], frame: tuple[int, int]) -> bytes:
    """One frame of one colour whose pixels are missing, in a few bytes."""
    screen = struct.pack("<HHBBB", *canvas, 0x80, 0, 0) + bytes(6)
    image = b"," + struct.pack("<HHHHB", 0, 0, *frame, 0) + b"\2" + b"\2\x4c\1" + b"\0"
    return b"GIF89a" + screen + image + b";"


def webp_canvas(width: int, height: int) -> bytes:
    """A small WebP that claims a canvas of another size."""
    sides = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    picture = save(photo(64, 64), "WEBP")[12:]
    body = b"WEBP" + b"VP8X" + struct.pack("<II", 10, 0) + sides + picture
    return b"RIFF" + struct.pack("<I", len(body)) + body


def tiff(width: int, height: int, fields: Mapping[int, tuple[int, int, int]] | None = None) -> bytes:
    """A gray TIFF of one strip that is missing. Fields are tag → type, count, value or offset."""
    entries = {
        256: (4, 1, width),
        257: (4, 1, height),
        258: (3, 1, 8),
        259: (3, 1, 1),
        262: (3, 1, 1),
        273: (4, 1, 8),
        277: (3, 1, 1),
        278: (4, 1, height),
        279: (4, 1, width * height & 0xFFFFFFFF),
    } | dict(fields or {})
    directory = struct.pack("<H", len(entries))
    for tag, (kind, count, value) in sorted(entries.items()):
        directory += struct.pack("<HHII", tag, kind, count, value)
    return b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<I", 0)


def looping_tiff() -> bytes:
    """A sound page whose directory names itself as the next."""
    content = bytearray(save(photo(64, 64), "TIFF"))
    (at,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, at)
    struct.pack_into("<I", content, at + 2 + 12 * count, at)
    return bytes(content)


def bmp(width: int, height: int, *, compression: int = 0) -> bytes:
    """The head of a 24-bit BMP without its pixels."""
    information = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, compression, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + information


def jpeg_of(width: int, height: int) -> bytes:
    """A small JPEG whose frame header claims another size."""
    content = bytearray(save(photo(64, 64), "JPEG"))
    at = bytes(content).index(b"\xff\xc0")
    struct.pack_into(">HH", content, at + 5, height, width)
    return bytes(content)


def with_segment(segment: bytes) -> bytes:
    """A good JPEG with something between its start and the rest."""
    content = jpeg()
    return content[:2] + segment + content[2:]


def with_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    content = save(photo(400, 300), "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * count + content[-2:]


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


def second_header_png() -> bytes:
    """The header that counts for a parser is small, the one that counts for a decoder is huge."""
    second = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    return png(64, 64, bits=8, colour=2, rows=None, extra=second)


NASTY: dict[str, Nasty] = {
    "empty": Nasty(lambda: b"", "empty_file"),
    "one_byte": Nasty(lambda: b"\xff", "unknown_format"),
    "html": Nasty(lambda: b"<!DOCTYPE html><title>404 Not Found</title>", "unknown_format"),
    "noise": Nasty(lambda: random.Random(0).randbytes(5000), "unknown_format"),
    "svg": Nasty(lambda: b'<?xml version="1.0"?><svg width="9" height="9"/>', "format_not_allowed"),
    "pdf": Nasty(lambda: b"%PDF-1.7 ...", "format_not_allowed"),
    "avif": Nasty(lambda: b"\0\0\0\x1cftypavif" + bytes(40), "format_not_allowed"),
    "ico_with_bomb": Nasty(
        lambda: b"\0\0\1\0\1\0" + struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, 99, 22) + bomb_png()[:99],
        "format_not_allowed",
    ),
    # JPEG
    "jpeg": Nasty(jpeg, "ok"),
    "jpeg_progressive": Nasty(lambda: jpeg(progressive=True), "ok"),
    "jpeg_gray": Nasty(lambda: save(photo().convert("L"), "JPEG"), "ok"),
    "jpeg_cmyk": Nasty(lambda: save(photo().convert("CMYK"), "JPEG", quality=95), "ok"),
    "jpeg_ycck": Nasty(ycck_jpeg, "ok"),
    "jpeg_trailing_junk": Nasty(lambda: jpeg() + bytes(9999), "ok"),
    **{f"jpeg_orientation_{each}": Nasty(functools.partial(turned, each), "ok") for each in range(1, 9)},
    "jpeg_cut_in_header": Nasty(lambda: jpeg()[:100], "truncated"),
    "jpeg_cut_at_10": Nasty(lambda: cut(jpeg(), 0.1), "truncated"),
    "jpeg_cut_at_50": Nasty(lambda: cut(jpeg(), 0.5), "truncated"),
    "jpeg_cut_at_99": Nasty(lambda: cut(jpeg(), 0.99), "truncated"),
    "jpeg_without_end": Nasty(lambda: jpeg()[:-2], "truncated"),
    "jpeg_progressive_cut": Nasty(lambda: cut(jpeg(progressive=True), 0.5), "truncated"),
    "jpeg_cut_and_closed": Nasty(lambda: cut(jpeg(), 0.6) + b"\xff\xd9", "truncated"),
    "jpeg_hole": Nasty(lambda: with_hole(jpeg(), 0.5, 1500), "truncated"),
    "jpeg_zeroed": Nasty(lambda: zeroed(jpeg(), 0.5, 1500), "truncated"),
    "jpeg_lost_restart": Nasty(lambda: lost_restart(jpeg(restart_marker_rows=1)), "corrupt"),
    "jpeg_lost_rows": Nasty(lambda: lost_restart(jpeg(restart_marker_rows=1), rows=3), "corrupt"),
    "jpeg_padded_end": Nasty(lambda: jpeg()[:-2] + bytes(16) + b"\xff\xd9", "ok"),
    "jpeg_only_start": Nasty(lambda: b"\xff\xd8\xff\xe0", "truncated"),
    "jpeg_no_frame": Nasty(lambda: b"\xff\xd8\xff\xda" + bytes(99), "corrupt"),
    "jpeg_two_frames": Nasty(
        lambda: with_segment(b"\xff\xc0\0\x11\x08\xff\xff\xff\xff\3\1\x22\0\2\x11\1\3\x11\1"), "corrupt"
    ),
    "jpeg_junk_between_markers": Nasty(lambda: with_segment(b"\xff\xfe\0\2" + bytes(30 << 20)), "corrupt"),
    "jpeg_many_segments": Nasty(lambda: with_segment(b"\xff\xfe\0\2" * 500_000), "corrupt"),
    "jpeg_many_scans": Nasty(lambda: with_scans(5000), "decompression_bomb"),
    "jpeg_claims_gigapixels": Nasty(lambda: jpeg_of(65_500, 65_500), "decompression_bomb"),
    "jpeg_claims_no_height": Nasty(lambda: jpeg_of(64, 0), "corrupt"),
    "jpeg_claims_more": Nasty(lambda: jpeg_of(3000, 3000), "truncated"),
    # PNG
    "png": Nasty(lambda: save(photo(), "PNG"), "ok"),
    "png_gray_16_bit": Nasty(lambda: gray_16_bit("PNG"), "ok"),
    "png_rgb_16_bit": Nasty(rgb_16_bit_png, "ok"),
    "png_palette_transparent": Nasty(palette_png, "ok"),
    "png_gray_alpha": Nasty(gray_alpha_png, "ok"),
    "png_rgba": Nasty(lambda: rgba("PNG"), "ok"),
    "png_one_bit": Nasty(lambda: save(photo().convert("1"), "PNG"), "ok"),
    "png_orientation_6": Nasty(lambda: turned(6, "PNG"), "ok"),
    "png_animated": Nasty(lambda: animation("PNG"), "ok"),
    "png_cut_at_50": Nasty(lambda: cut(save(photo(), "PNG"), 0.5), "truncated"),
    "png_without_end": Nasty(lambda: save(photo(), "PNG")[:-12], "truncated"),
    "png_wrong_checksum": Nasty(lambda: flipped(save(photo(), "PNG"), 29), "corrupt"),
    "png_broken_pixels": Nasty(
        lambda: png(300, 200, bits=8, colour=2, rows=b"\7" + bytes(300 * 200 * 3)), "corrupt"
    ),
    "png_two_headers": Nasty(second_header_png, "corrupt"),
    "png_bomb": Nasty(lambda: bomb_png(), "decompression_bomb"),
    "png_claims_less": Nasty(
        lambda: png(64, 64, bits=8, colour=0, rows=None).replace(
            chunk(b"IDAT", deflated_zeros(65 * 64)), chunk(b"IDAT", deflated_zeros(200 << 20))
        ),
        "blank",
    ),
    "png_text_bomb": Nasty(
        lambda: png(
            64, 64, bits=8, colour=0, rows=None, extra=chunk(b"zTXt", b"k\0\0" + deflated_zeros(200 << 20))
        ),
        "decompression_bomb",
    ),
    "png_profile_bomb": Nasty(
        lambda: png(
            64, 64, bits=8, colour=0, rows=None, extra=chunk(b"iCCP", b"k\0\0" + deflated_zeros(200 << 20))
        ),
        "decompression_bomb",
    ),
    "png_many_chunks": Nasty(
        lambda: png(64, 64, bits=8, colour=0, rows=None, extra=chunk(b"tIME", bytes(7)) * 500_000), "corrupt"
    ),
    "png_side_of_30000": Nasty(lambda: png(30_000, 1600, bits=8, colour=0, rows=None), "too_large"),
    "png_tiny": Nasty(lambda: save(photo(7, 7), "PNG"), "too_small"),
    "png_sliver": Nasty(lambda: save(photo(400, 10), "PNG"), "aspect"),
    "png_white": Nasty(lambda: save(Image.new("RGB", (300, 200), "white"), "PNG"), "blank"),
    "png_invisible": Nasty(
        lambda: save(Image.merge("RGBA", (*photo().split(), Image.new("L", (WIDTH, HEIGHT)))), "PNG"), "blank"
    ),
    # GIF, WebP, BMP, TIFF
    "gif_animated": Nasty(lambda: animation("GIF"), "ok"),
    "gif_cut": Nasty(lambda: cut(save(photo(400, 300), "GIF"), 0.5), "truncated"),
    "gif_without_frame": Nasty(lambda: gif((64, 64), (64, 64))[:19] + b";", "corrupt"),
    "gif_missing_pixels": Nasty(lambda: gif((300, 200), (300, 200)), "truncated"),
    "gif_huge_canvas": Nasty(lambda: gif((65_535, 65_535), (1, 1)), "decompression_bomb"),
    "gif_huge_frame": Nasty(lambda: gif((64, 64), (65_535, 65_535)), "decompression_bomb"),
    "webp": Nasty(lambda: save(photo(), "WEBP"), "ok"),
    "webp_rgba": Nasty(lambda: rgba("WEBP", lossless=True), "ok"),
    "webp_orientation_8": Nasty(lambda: turned(8, "WEBP"), "ok"),
    "webp_animated": Nasty(lambda: animation("WEBP"), "ok"),
    "webp_cut": Nasty(lambda: cut(save(photo(), "WEBP"), 0.5), "truncated"),
    "webp_bomb": Nasty(lambda: webp_canvas(16_383, 16_383), "decompression_bomb"),
    "webp_claims_other_canvas": Nasty(lambda: webp_canvas(3000, 3000), "corrupt"),
    "bmp": Nasty(lambda: save(photo(), "BMP"), "ok"),
    "bmp_cut": Nasty(lambda: cut(save(photo(), "BMP"), 0.5), "truncated"),
    "bmp_bomb": Nasty(lambda: bmp(30_000, -30_000), "decompression_bomb"),
    "bmp_run_lengths": Nasty(lambda: bmp(300, 200, compression=1), "unsupported_pixels"),
    "tiff": Nasty(lambda: save(photo(), "TIFF", compression="tiff_lzw"), "ok"),
    "tiff_gray_16_bit": Nasty(lambda: gray_16_bit("TIFF"), "ok"),
    "tiff_cmyk": Nasty(lambda: save(photo().convert("CMYK"), "TIFF"), "ok"),
    "tiff_float": Nasty(
        lambda: save(Image.fromarray(np.ones((90, 90), np.float32)), "TIFF"), "unsupported_pixels"
    ),
    "tiff_looping": Nasty(looping_tiff, "ok"),
    "tiff_cut": Nasty(lambda: cut(save(photo(), "TIFF"), 0.5), "truncated"),
    "tiff_bomb": Nasty(lambda: tiff(60_000, 60_000), "decompression_bomb"),
    "tiff_huge_tiles": Nasty(
        lambda: tiff(64, 64, {322: (4, 1, 65_535), 323: (4, 1, 65_535)}), "decompression_bomb"
    ),
    "tiff_huge_index": Nasty(lambda: tiff(64, 64, {273: (4, 16_000_000, 8)}), "decompression_bomb"),
    "tiff_odd_metadata": Nasty(lambda: tiff(64, 64, {700: (7, 1_000_000, 8)}) + bytes(range(256)) * 16, "ok"),
    "tiff_missing_pixels": Nasty(lambda: tiff(300, 200), "truncated"),
}


def bomb_png() -> bytes:
    """3.6 gigapixels that are really there, in half a megabyte."""
    return png(60_000, 60_000, bits=1, colour=0, rows=None)


def large(kind: str, **options: object) -> bytes:
    """Twelve megapixels of plain colour and one diagonal: little to store, much to decode."""
    image = Image.new("RGBA" if options.pop("alpha", False) else "RGB", (4000, 3000), "navy")
    ImageDraw.Draw(image).line((0, 0, 4000, 3000), fill="white", width=40)
    return save(image, kind, **options)


LARGE: dict[str, Nasty] = {
    "large_jpeg": Nasty(lambda: large("JPEG"), "ok"),
    "large_jpeg_progressive": Nasty(lambda: large("JPEG", progressive=True, subsampling=0), "ok"),
    "large_png": Nasty(lambda: large("PNG", alpha=True), "ok"),
    "large_png_16_bit": Nasty(lambda: png(4000, 3000, bits=16, colour=6, rows=None), "blank"),
    "large_gif": Nasty(lambda: large("GIF"), "ok"),
    "large_webp": Nasty(lambda: large("WEBP", alpha=True, method=0), "ok"),
    "large_tiff": Nasty(lambda: large("TIFF", compression="tiff_lzw"), "ok"),
    "large_bmp": Nasty(lambda: large("BMP"), "ok"),
}
"""Pictures within the limits that take a decoder the most memory for their pixels."""
LARGE_PIXELS = 4000 * 3000
