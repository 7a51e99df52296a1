"""Candidates and pictures made for tests."""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from components.config import CurateConfig
from components.curate.duplicates.perceptual import gray_of, hash_images, thumbnail
from components.curate.samples import Candidate, Picture, Place, Turn

NOWHERE = Place(Path("nowhere"), 0, 0)


def draw_circle(seed: int = 0, size: int = 64) -> Image.Image:
    image = Image.new("RGB", (size, size), "white")
    left = zlib.crc32(bytes([seed % 256])) % 40
    ImageDraw.Draw(image).ellipse((left, seed % 40, left + 20, seed % 40 + 20), fill=(seed % 256, 40, 90))
    return image


def encode_image(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def hash_picture(image: Image.Image) -> str:
    thumbs = np.frombuffer(thumbnail(image), np.uint8)[None]
    return f"{int(hash_images(gray_of(thumbs))[0]):016x}"


def make_picture(image: Image.Image, place: Place = NOWHERE) -> Picture:
    return Picture(
        place=place,
        format="png",
        width=image.width,
        height=image.height,
        pixels_sha256=hashlib.sha256(image.tobytes()).hexdigest(),
        thumbnail=thumbnail(image),
        blur=1.0,
    )


def make_candidate(
    key: str, *, split: str = "train", seed: int = 0, answer: str = "a circle", place: Place = NOWHERE
) -> Candidate:
    """A drawn sample whose picture depends on `seed` alone."""
    image = draw_circle(seed)
    return Candidate(
        key=key,
        category="vqa",
        group="g" if split == "test" else "",
        split=split,
        source="pypi:x==1",
        source_version="1",
        licence="MIT",
        original_id=key,
        turns=(Turn("What is this?", answer),),
        picture=make_picture(image, place),
        phash=hash_picture(image),
    )


def make_text(key: str, *, split: str = "train", answer: str = "a circle") -> Candidate:
    """A sample without an image."""
    return Candidate(
        key=key,
        category="text",
        group="g" if split == "test" else "",
        split=split,
        source="pypi:x==1",
        source_version="1",
        licence="MIT",
        original_id=key,
        turns=(Turn("What is round?", answer),),
        has_image=False,
    )


def photo(number: int) -> Image.Image:
    """A picture like no other number's."""
    levels = np.random.default_rng(number).integers(0, 256, (5, 6, 3), np.uint8)
    return Image.fromarray(levels).resize((200, 160), Image.Resampling.BICUBIC)


def write_folder(folder: Path, numbers: range, **options: object) -> None:
    folder.mkdir(parents=True)
    for number in numbers:
        photo(number).save(folder / f"{number}.png", **options)
        (folder / f"{number}.txt").write_text(f"picture {number} of this folder")


def folder_config(curate_config: Callable[..., CurateConfig], folder: Path, **fields: object) -> CurateConfig:
    source = {"locator": f"folder:{folder}", "category": "photo", "licence": "CC0-1.0"}
    return curate_config(sources=[source], min_samples_per_category=1, **fields)
