from __future__ import annotations

import numpy as np
import pytest
from duplicate_pictures import cropped, drawing, jpeg
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from components.curate.duplicates.perceptual import (
    GRAY,
    THUMB_BYTES,
    View,
    colour_of,
    gray_of,
    hash_images,
    hash_views,
    thumbnail,
    views,
)


def as_thumbs(*pictures: Image.Image) -> np.ndarray:
    return np.frombuffer(b"".join(map(thumbnail, pictures)), np.uint8).reshape(len(pictures), THUMB_BYTES)


def hashes_of(*pictures: Image.Image) -> np.ndarray:
    return hash_images(gray_of(as_thumbs(*pictures)))


def distance(one: np.uint64, other: np.uint64) -> int:
    return int(np.bitwise_count(one ^ other))


def test_thumbnail_of_halves_keeps_layout_and_colour() -> None:
    page = Image.new("RGB", (64, 64), "red")
    page.paste((0, 0, 255), (32, 0, 64, 64))
    thumbs = as_thumbs(page)
    gray, colour = gray_of(thumbs)[0], colour_of(thumbs)[0]
    assert (gray[:, : GRAY // 2] == 76).all() and (gray[:, GRAY // 2 :] == 29).all()  # ITU-R 601
    assert (colour[:, :4] == (255, 0, 0)).all() and (colour[:, 4:] == (0, 0, 255)).all()


def test_thumbnail_averages_all_pixels() -> None:
    """Every second column black: any subsampling would show stripes."""
    pixels = np.zeros((256, 256, 3), np.uint8)
    pixels[:, ::2] = 200
    gray = gray_of(as_thumbs(Image.fromarray(pixels)))
    assert (gray == 100).all()


def test_hash_of_recompressed_photographs_is_near_and_of_others_far(photographs: list[Image.Image]) -> None:
    originals = hashes_of(*photographs)
    copies = hashes_of(*(jpeg(each.resize((128, 96))) for each in photographs))
    between = np.bitwise_count(originals[:, None] ^ copies[None, :])
    assert np.diag(between).max() <= 4
    assert between[~np.eye(len(originals), dtype=bool)].min() > 10


def test_hash_of_brighter_photographs_is_near(photographs: list[Image.Image]) -> None:
    brighter = [each.point(lambda level: level * 0.6 + 40) for each in photographs]
    assert np.bitwise_count(hashes_of(*photographs) ^ hashes_of(*brighter)).max() <= 4


@given(st.integers(0, 2**32 - 1), st.sampled_from(["noise", "steps"]))
def test_mirrored_view_is_the_hash_of_the_mirrored_picture(seed: int, kind: str) -> None:
    generator = np.random.default_rng(seed)
    gray = generator.integers(0, 256, (3, GRAY, GRAY), dtype=np.uint8)
    if kind == "steps":  # few levels, symmetric rows: coefficients that are zero
        gray = np.repeat(gray[:, ::8] // 128 * 200, 8, axis=1).astype(np.uint8)
    whole, mirrored = hash_views(gray, views(crop=0.0, mirrored=True))
    assert (hash_images(np.ascontiguousarray(gray[:, :, ::-1])) == mirrored).all()
    assert (hash_images(gray) == whole).all()


def test_hash_of_a_symmetric_drawing_survives_noise() -> None:
    """Half of its coefficients are zero: a hash by sign would flip them at random."""
    page = drawing(left=30)
    thumbs = as_thumbs(page)
    gray = gray_of(thumbs)
    noisy = np.clip(gray + np.random.default_rng(0).normal(0, 1.5, gray.shape), 0, 255).astype(np.uint8)
    assert distance(hash_images(gray)[0], hash_images(noisy)[0]) <= 2


def test_hash_does_not_depend_on_the_batch(photographs: list[Image.Image]) -> None:
    gray = gray_of(as_thumbs(*photographs))
    alone = np.concatenate([hash_images(gray[row : row + 1]) for row in range(len(gray))])
    assert (hash_images(np.repeat(gray, 1000, axis=0)) == np.repeat(alone, 1000)).all()


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2])
def test_views_bring_a_crop_near(photographs: list[Image.Image], share: float) -> None:
    crops = hashes_of(*(cropped(each, share) for each in photographs))
    wanted = views(crop=share, mirrored=False)
    seen = hash_views(gray_of(as_thumbs(*photographs)), wanted)
    nearest = np.bitwise_count(seen ^ crops[None, :]).min(axis=0)
    whole = np.bitwise_count(seen[0] ^ crops)
    assert (nearest <= 10).all()
    assert (nearest <= whole).all() and nearest.sum() < whole.sum()


def test_views_start_with_the_whole_picture_and_grow_with_the_crop() -> None:
    counts = [len(views(crop=crop, mirrored=False)) for crop in (0.0, 0.05, 0.1, 0.2)]
    assert counts == [1, 5, 14, 30]
    assert views(crop=0.2, mirrored=False)[0] == View()
    assert len(views(crop=0.2, mirrored=True)) == 60
    for each in views(crop=0.2, mirrored=True):
        assert each.top >= 0 and each.left >= 0
        assert each.top + each.side <= 1 + 1e-9 and each.left + each.side <= 1 + 1e-9


def test_hash_of_a_flat_picture_is_zero_and_of_inverted_is_not_its_own(
    photographs: list[Image.Image],
) -> None:
    assert hashes_of(Image.new("RGB", (40, 40), "gray"))[0] == 0
    inverted = ImageOps.invert(photographs[0])
    assert distance(hashes_of(photographs[0])[0], hashes_of(inverted)[0]) > 20
