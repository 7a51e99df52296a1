"""The two looks at a picture in worker processes: its header, and one decode that is large enough."""

from __future__ import annotations

import io
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from made import draw_circle, encode_image
from PIL import Image, ImageChops, ImageStat
from tiny_corpora import png, write

from components.config import CurateConfig, SourceConfig
from components.curate.engines import LocalEngine
from components.curate.examine import Delivery, examine_all, longer_side, read_headers
from components.curate.plan import Task, plan_sources
from components.curate.samples import Draft, Header, Picture
from components.curate.sift import sift

ENGINE = LocalEngine(1, ExitStack())
CONFIG = CurateConfig(sources=(SourceConfig(locator="folder:x", category="x"),))


def task(path: Path, name: str = "") -> Task:
    return Task("a", "folder", Draft("a", "train", "", (), {"path": str(path)}, file_name=name))


@pytest.mark.parametrize(
    ("name", "misnamed"),
    [
        ("photo.jpg", True),
        ("photo.avif", True),
        ("photo.PNG", False),
        ("photo", False),
        ("v1.2", False),
        ("", False),
    ],
)
def test_name_that_says_another_format_is_recorded_and_the_picture_kept(
    tmp_path: Path, name: str, misnamed: bool
) -> None:
    write(tmp_path, {"file": png()})
    (header,), _ = read_headers(ENGINE, [task(tmp_path / "file", name)], CONFIG.images, tmp_path / "chunks")
    assert isinstance(header, Header)
    assert (header.format, header.misnamed) == ("png", misnamed)


def test_funnel_counts_misnamed_pictures_by_source_and_keeps_them(tmp_path: Path) -> None:
    pictures = {
        f"{number}.{suffix}": encode_image(draw_circle(seed))
        for number, (suffix, seed) in enumerate([("png", 0), ("jpg", 9), ("webp", 40)])
    }
    texts = {f"{number}.txt": f"picture {number}" for number in range(3)}
    write(tmp_path / "photos", {**pictures, **texts})
    source = SourceConfig(locator=f"folder:{tmp_path}/photos", category="photos", licence="CC0-1.0")
    config = CurateConfig.model_validate({"sources": (source,), "execution": {"workspace": tmp_path}})
    funnel, _ = sift(ENGINE, plan_sources(config), config, tmp_path / "scratch", tmp_path / "logs")
    named = {each.original_id: each.header.misnamed for each in funnel.kept if each.header}
    assert named == {"0.png": False, "1.jpg": True, "2.webp": True}
    assert funnel.notes == {"misnamed": {source.locator: 2}}


def difference(one: Image.Image, other: Image.Image) -> float:
    assert one.size == other.size
    return sum(ImageStat.Stat(ImageChops.difference(one, other)).mean) / 3


@pytest.mark.parametrize("size", [(1200, 300), (320, 1280), (512, 512), (200, 100)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_crop_is_decoded_as_large_as_its_shorter_side_asks_for(
    tmp_path: Path, kind: str, size: tuple[int, int]
) -> None:
    """Stripes of four pixels: from a picture that was reduced too far they come out gray."""
    tile = Image.new("RGB", (8, 8), "white")
    tile.paste("black", (0, 0, 4, 8))
    image = Image.new("RGB", size)
    for left in range(0, size[0], 8):
        for top in range(0, size[1], 8):
            image.paste(tile, (left, top))
    write(tmp_path, {"file": encode_image(image, kind)})
    delivery = replace(Delivery.of(CONFIG), side=256, fit="crop")
    (picture,), _ = examine_all(ENGINE, [task(tmp_path / "file")], delivery, tmp_path / "chunks")
    assert isinstance(picture, Picture)
    short = min(size)
    left, top = (size[0] - short) // 2, (size[1] - short) // 2
    expected = image.crop((left, top, left + short, top + short)).resize((256, 256), Image.Resampling.LANCZOS)
    delivered = Image.open(io.BytesIO(picture.place.read())).convert("RGB")
    assert difference(delivered, expected) < 30
    assert ImageStat.Stat(delivered).stddev[0] > 80  # black and white; gray has none


def test_crop_of_a_drawing_that_is_not_square_is_not_enlarged() -> None:
    assert longer_side(512, 128, replace(Delivery.of(CONFIG), side=64, fit="crop")) == 256
    assert longer_side(512, 128, replace(Delivery.of(CONFIG), side=64, fit="pad")) == 64
