"""Pictures from strangers: each nasty one ends with its reason, each good one shows what it should."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import memory
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nasty import LARGE, LARGE_PIXELS, NASTY, animation, jpeg, photo, save
from PIL import Image, ImageFilter

from components.config.images import ImageLimits
from components.curate.image_headers import detect_format
from components.curate.images import (
    Examined,
    Header,
    encode,
    examine,
    examine_image,
    fit,
    is_misnamed,
    read_header,
)
from components.curate.samples import Reason

LIMITS = ImageLimits()
MEGABYTES = 40
"""What looking at a nasty file may take: more than any picture of a megapixel does."""
BYTES_A_PIXEL = {"large_webp": 17.0, "large_jpeg_progressive": 7.0}
"""What a decoder may hold at its peak; the others hold Pillow's own 4 and a little."""


@pytest.fixture(scope="session")
def looked() -> dict[str, tuple[str, float]]:
    """Name → reason code and megabytes, each file looked at in a process of its own."""
    script = Path(memory.__file__)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=Path.cwd())
    assert done.returncode == 0, done.stderr
    return {name: (code, megabytes) for name, (code, megabytes) in json.loads(done.stdout).items()}


@pytest.mark.parametrize("name", NASTY)
def test_nasty_picture_ends_with_its_reason_in_little_memory(
    looked: dict[str, tuple[str, float]], name: str
) -> None:
    code, megabytes = looked[name]
    assert code == NASTY[name].expected
    assert megabytes < MEGABYTES


@pytest.mark.parametrize("name", LARGE)
def test_large_picture_takes_no_more_than_its_decoder(
    looked: dict[str, tuple[str, float]], name: str
) -> None:
    code, megabytes = looked[name]
    assert code == LARGE[name].expected
    assert megabytes < BYTES_A_PIXEL.get(name, 5.0) * LARGE_PIXELS / 1e6 + 12


def look(content: bytes, limits: ImageLimits = LIMITS, *, side: int = 256) -> Examined:
    header = read_header(content, limits)
    assert isinstance(header, Header), header
    examined = examine(content, header, limits, side=side)
    assert isinstance(examined, Examined), examined
    return examined


def reject(content: bytes, limits: ImageLimits, *, side: int = 256) -> Reason:
    header = read_header(content, limits)
    found = header if isinstance(header, Reason) else examine(content, header, limits, side=side)
    assert isinstance(found, Reason)
    return found


def difference(one: Image.Image, other: Image.Image) -> float:
    """Mean absolute difference of two pictures of one size, in levels of 256."""
    assert one.size == other.size
    levels: list[npt.NDArray[np.int16]] = [np.asarray(each.convert("RGB"), np.int16) for each in (one, other)]
    return float(np.abs(levels[0] - levels[1]).mean())


def reduced(image: Image.Image, longest: int) -> Image.Image:
    """The whole picture decoded and averaged: what a fast decode must agree with."""
    scale = longest / max(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    return image.resize(size, Image.Resampling.BOX)


@pytest.mark.parametrize("side", [64, 256, 300, 600, 2000])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_picture_is_reduced_to_what_is_needed_and_never_enlarged(kind: str, side: int) -> None:
    examined = look(save(photo(), kind), side=side)
    expected = reduced(photo(), min(max(side, 256), 1200))
    assert (examined.width, examined.height) == (1200, 900)
    assert examined.image.size == expected.size
    assert difference(examined.image, expected) < (2.5 if kind in ("JPEG", "WEBP") else 1.0)


@pytest.mark.parametrize("name", [name for name in NASTY if "orientation" in name])
def test_orientation_is_applied(name: str) -> None:
    examined = look(NASTY[name].make())
    assert (examined.width, examined.height) == (1200, 900)
    assert difference(examined.image, reduced(photo(), 256)) < 2.5


@pytest.mark.parametrize("name", ["jpeg_cmyk", "jpeg_ycck", "tiff_cmyk"])
def test_four_channels_show_the_same_picture(name: str) -> None:
    assert difference(look(NASTY[name].make()).image, reduced(photo(), 256)) < 2.5


@pytest.mark.parametrize("name", ["png_gray_16_bit", "tiff_gray_16_bit", "png_rgb_16_bit"])
def test_sixteen_bits_are_scaled_and_not_clipped(name: str) -> None:
    levels = np.asarray(look(NASTY[name].make()).image.convert("L"))
    middle = levels[levels.shape[0] // 2]
    assert levels.min() < 3 and levels.max() > 252
    assert 120 < middle.mean() < 136


@pytest.mark.parametrize(
    ("name", "left"), [("png_palette_transparent", (255, 0, 0)), ("png_gray_alpha", (40, 40, 40))]
)
def test_transparency_shows_white(name: str, left: tuple[int, int, int]) -> None:
    image = look(NASTY[name].make()).image
    assert image.getpixel((10, 30)) == left
    assert image.getpixel((50, 30)) == (255, 255, 255)


@pytest.mark.parametrize("name", ["png_rgba", "webp_rgba"])
def test_half_transparent_pixels_are_laid_on_white(name: str) -> None:
    content = NASTY[name].make()
    page = Image.new("RGBA", (400, 300), "white")
    page.alpha_composite(Image.open(io.BytesIO(content)).convert("RGBA"))
    assert difference(look(content).image, reduced(page.convert("RGB"), 256)) < 1.0


@pytest.mark.parametrize("name", ["png_animated", "gif_animated", "webp_animated"])
def test_first_frame_of_an_animation_is_taken_unless_it_is_refused(name: str) -> None:
    content = NASTY[name].make()
    header = read_header(content, LIMITS)
    assert isinstance(header, Header) and header.frames == 3
    red = look(content).image.getpixel((40, 40))
    assert isinstance(red, tuple) and red[0] > 240 and max(red[1:]) < 10
    assert reject(content, ImageLimits(animated="reject")).code == "animated"


def test_warning_of_a_decoder_is_no_reason() -> None:
    content = NASTY["tiff_odd_metadata"].make()
    with pytest.warns(UserWarning, match="larger than file"):
        Image.open(io.BytesIO(content)).load()
    assert look(content).width == 64  # warnings are errors in tests


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ({"formats": ["png"]}, "format_not_allowed"),
        ({"max_bytes": 1000}, "too_large"),
        ({"min_side": 901}, "too_small"),
        ({"max_side": 1199}, "too_large"),
        ({"max_pixels": 1_000_000}, "decompression_bomb"),
        ({"max_aspect": 1.3}, "aspect"),
        ({"blur": 1000.0}, "blur"),
    ],
)
def test_each_limit_rejects_what_is_beyond_it(limits: dict[str, object], code: str) -> None:
    assert reject(jpeg(), ImageLimits.model_validate(limits)).code == code


def test_blank_picture_passes_where_blank_is_allowed() -> None:
    white = save(Image.new("RGB", (300, 200), "white"), "PNG")
    assert reject(white, LIMITS).code == "blank"
    assert look(white, ImageLimits(blank=False)).blur == 0


def test_gray_picture_is_not_taken_for_a_cut_one() -> None:
    gray = save(Image.new("RGB", (300, 200), (128, 128, 128)), "JPEG")
    assert reject(gray, LIMITS).code == "blank"
    assert look(gray, ImageLimits(blank=False)).width == 300


def test_blur_falls_as_a_picture_is_blurred_and_not_with_its_size() -> None:
    sharp, small = look(save(photo(), "PNG")), look(save(reduced(photo(), 256), "PNG"))
    soft = look(save(photo().filter(ImageFilter.GaussianBlur(20)), "PNG"))
    assert soft.blur < sharp.blur / 5
    assert small.blur == pytest.approx(sharp.blur, rel=0.2)
    assert look(save(photo(), "PNG"), side=900).blur == pytest.approx(sharp.blur, rel=0.1)


def test_name_of_another_format_is_told_and_content_decides() -> None:
    header = read_header(jpeg(), LIMITS)
    assert isinstance(header, Header) and header.format == "jpeg"
    assert is_misnamed("picture.png", header)
    assert not is_misnamed("picture.JPG", header) and not is_misnamed("picture", header)


def test_header_says_depth_channels_and_pages() -> None:
    header = read_header(NASTY["png_gray_16_bit"].make(), LIMITS)
    assert isinstance(header, Header) and (header.mode, header.bits) == ("gray", 16)
    header = read_header(NASTY["jpeg_cmyk"].make(), LIMITS)
    assert isinstance(header, Header) and header.mode == "cmyk"
    header = read_header(animation("TIFF"), LIMITS)
    assert isinstance(header, Header) and header.frames == 3


def test_pixel_hash_is_of_pixels_and_original_size() -> None:
    one, other = save(photo(), "PNG", compress_level=1), save(photo(), "PNG", compress_level=9)
    assert one != other
    assert look(one).pixels_sha256 == look(other).pixels_sha256
    assert look(one).pixels_sha256 != look(save(photo(1200, 904), "PNG")).pixels_sha256


def test_hash_square_is_the_mean_luminance_of_its_areas() -> None:
    examined = look(save(photo(256, 256), "PNG"))
    levels = np.asarray(photo(256, 256).convert("L"), np.float64)
    areas = levels.reshape(32, 8, 32, 8).mean(axis=(1, 3))
    found = np.frombuffer(examined.gray_32x32, np.uint8).reshape(32, 32)
    assert np.abs(found - areas).max() <= 1


def test_drawn_picture_is_measured_like_a_decoded_one() -> None:
    drawn, decoded = examine_image(photo(), LIMITS, side=256), look(save(photo(), "PNG"))
    assert isinstance(drawn, Examined)
    assert drawn.image.size == decoded.image.size and drawn.width == decoded.width
    assert drawn.blur == pytest.approx(decoded.blur, rel=0.1)
    assert isinstance(examine_image(Image.new("RGB", (64, 64), "white"), LIMITS, side=64), Reason)


def test_fit_pads_shrinks_and_crops() -> None:
    image = reduced(photo(), 256)
    padded, inside, cropped = (fit(image, 128, mode) for mode in ("pad", "inside", "crop"))
    assert padded.size == cropped.size == (128, 128) and inside.size == (128, 96)
    assert padded.getpixel((64, 0)) == padded.getpixel((64, 127)) == (255, 255, 255)
    assert difference(padded.crop((0, 16, 128, 112)), inside) == 0
    assert difference(cropped, image.crop((32, 0, 224, 192)).resize((128, 128))) < 3
    assert fit(image, 999, "inside") is image
    assert fit(image, 512, "pad").size == fit(image, 512, "crop").size == (512, 512)


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_encoding_is_the_same_every_time_and_holds_only_pixels(kind: str) -> None:
    image = photo(300, 200).copy()
    plain = encode(image, kind, 90)  # type: ignore[arg-type]
    image.info = {"comment": b"secret", "icc_profile": b"secret", "exif": b"Exif\0\0secret", "dpi": (9, 9)}
    assert encode(image, kind, 90) == plain  # type: ignore[arg-type]
    assert detect_format(plain) == kind
    assert difference(Image.open(io.BytesIO(plain)), image) < (3 if kind != "png" else 0.001)


@settings(max_examples=60, deadline=None)
@given(width=st.integers(8, 700), height=st.integers(8, 700), side=st.integers(16, 700))
def test_any_size_fits(width: int, height: int, side: int) -> None:
    limits = ImageLimits(max_aspect=1000, blank=False)
    examined = look(save(Image.linear_gradient("L").resize((width, height)), "JPEG"), limits, side=side)
    assert (examined.width, examined.height) == (width, height)
    assert max(examined.image.size) == min(max(side, 256), max(width, height))
    assert fit(examined.image, side, "pad").size == (side, side)
    assert fit(examined.image, side, "crop").size == (side, side)
    assert max(fit(examined.image, side, "inside").size) == min(side, max(width, height))
