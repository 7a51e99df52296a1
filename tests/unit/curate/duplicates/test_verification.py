from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from duplicate_pictures import chart, cropped, drawing, jpeg
from PIL import Image, ImageDraw, ImageEnhance

from components.config.duplicates import NearDuplicateConfig
from components.curate.duplicates.perceptual import THUMB_BYTES, View, thumbnail, views
from components.curate.duplicates.verification import are_photographs, same_pictures

WHOLE, CONFIG = View(), NearDuplicateConfig()


def is_same(
    one: Image.Image, other: Image.Image, view: View = WHOLE, config: NearDuplicateConfig = CONFIG
) -> bool:
    thumbs = np.frombuffer(thumbnail(one) + thumbnail(other), np.uint8).reshape(2, THUMB_BYTES)
    pair = np.array([[0, 1]])
    return bool(same_pictures(thumbs, pair, view, are_photographs(thumbs), config)[0])


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "smaller": lambda picture: picture.resize((96, 72), Image.Resampling.LANCZOS),
    "jpeg": jpeg,
    "darker": lambda picture: ImageEnhance.Brightness(picture).enhance(0.75),
    "less contrast": lambda picture: ImageEnhance.Contrast(picture).enhance(0.75),
}


@pytest.mark.parametrize("copy", COPIES)
def test_copies_of_photographs_and_drawings_are_the_same(photographs: list[Image.Image], copy: str) -> None:
    for picture in (*photographs, drawing(), chart((30, 70, 50, 20))):
        assert is_same(picture, COPIES[copy](picture))


def test_gray_copy_of_a_photograph_is_the_same_and_of_a_drawing_is_not(
    photographs: list[Image.Image],
) -> None:
    for picture in photographs:
        assert is_same(picture, picture.convert("L").convert("RGB"))
    assert not is_same(drawing(), drawing().convert("L").convert("RGB"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (drawing(colour="red"), drawing(colour=(0, 130, 0))),  # type: ignore[arg-type]
        (drawing(), drawing(kind="rectangle")),
        (drawing(), drawing(left=34)),
        (chart((30, 70, 50, 20)), chart((30, 70, 50, 32))),
        (chart((30, 70, 50, 20)), chart((70, 30, 50, 20))),
        (Image.new("RGB", (64, 64), "red"), Image.new("RGB", (64, 64), "green")),
    ],
    ids=["colour", "shape", "place", "one bar", "two bars", "flat"],
)
def test_drawings_that_differ_in_one_thing_are_not_the_same(one: Image.Image, other: Image.Image) -> None:
    assert not is_same(one, other)
    assert not is_same(other, one)


def test_digits_that_differ_in_one_place_are_not_the_same() -> None:
    pages = []
    for text in ("3141", "3741"):
        page = Image.new("RGB", (64, 64), "white")
        ImageDraw.Draw(page).text((4, 20), text, "black", font_size=24)
        pages.append(page)
    assert not is_same(pages[0], pages[1])
    assert is_same(pages[0], jpeg(pages[0], 60))


def test_different_photographs_are_not_the_same(photographs: list[Image.Image]) -> None:
    for place, one in enumerate(photographs):
        for other in photographs[place + 1 :]:
            assert not is_same(one, other)


def test_flat_pictures_of_one_colour_are_the_same() -> None:
    assert is_same(Image.new("RGB", (64, 64), (200, 30, 30)), Image.new("RGB", (50, 40), (202, 31, 29)))


def test_mirrored_copy_is_the_same_only_through_the_mirrored_view(photographs: list[Image.Image]) -> None:
    for picture in photographs[:4]:
        mirrored = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        assert is_same(picture, mirrored, View(mirrored=True))
        assert not is_same(picture, mirrored)


def test_cropped_photograph_is_the_same_through_one_of_the_views(photographs: list[Image.Image]) -> None:
    wanted = views(crop=0.1, mirrored=False)
    for picture in photographs[:2]:
        assert any(is_same(picture, cropped(picture, 0.08), view) for view in wanted)
        mirrored = cropped(picture, 0.08).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        assert any(is_same(picture, mirrored, view) for view in views(crop=0.1, mirrored=True))
        assert not any(is_same(picture, mirrored, view) for view in wanted)


def test_limits_of_zero_keep_all_but_equal_pictures(photographs: list[Image.Image]) -> None:
    strict = NearDuplicateConfig(picture_difference=0, colour_difference=0)
    assert not is_same(photographs[0], jpeg(photographs[0]), config=strict)
    nearly = NearDuplicateConfig(picture_difference=1e-3, colour_difference=0)
    assert is_same(photographs[0], photographs[0], config=nearly)


def test_photographs_are_told_from_drawings(photographs: list[Image.Image]) -> None:
    pictures = [*photographs, drawing(), chart((30, 70, 50, 20))]
    thumbs = np.frombuffer(b"".join(map(thumbnail, pictures)), np.uint8).reshape(-1, THUMB_BYTES)
    found = are_photographs(thumbs)
    assert not found[len(photographs) :].any()
    assert found[[0, 1, 2]].all()


def test_no_pairs_give_no_answers() -> None:
    none = np.zeros((0, 2), np.int64)
    thumbs = np.zeros((1, THUMB_BYTES), np.uint8)
    assert len(same_pictures(thumbs, none, View(), np.ones(1, bool), NearDuplicateConfig())) == 0
