"""Pictures and rows of signatures that the tests of this folder share."""

from __future__ import annotations

import hashlib
import io

from PIL import Image, ImageDraw

from components.curate.duplicates import thumbnail


def drawing(*, colour: str = "red", left: int = 20, kind: str = "ellipse") -> Image.Image:
    """One shape on white."""
    page = Image.new("RGB", (96, 96), "white")
    getattr(ImageDraw.Draw(page), kind)((left, 30, left + 36, 66), fill=colour)
    return page


def chart(heights: tuple[int, ...]) -> Image.Image:
    """Bars in one colour."""
    page = Image.new("RGB", (96, 96), "white")
    for place, height in enumerate(heights):
        ImageDraw.Draw(page).rectangle((8 + 22 * place, 88 - height, 22 + 22 * place, 88), fill="navy")
    return page


def jpeg(picture: Image.Image, quality: int = 40) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def cropped(picture: Image.Image, share: float) -> Image.Image:
    """What is left when `share` of the sides is cut away at the left and at the top."""
    width, height = picture.size
    return picture.crop((round(width * share), round(height * share), width, height))


def row(
    key: str,
    picture: Image.Image | None,
    text: str = "",
    *,
    split: str = "train",
    category: str = "photo",
) -> dict[str, object]:
    """One row of a table of signatures."""
    return {
        "key": key,
        "split": split,
        "category": category,
        "pixels_sha256": hashlib.sha256(picture.tobytes()).hexdigest() if picture else "",
        "text_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "text": text,
        "thumbnail": thumbnail(picture) if picture else None,
    }
