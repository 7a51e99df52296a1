"""The two looks at a picture in worker processes: its header, and one decode."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest
from made import draw_circle, encode_image
from tiny_corpora import png, write

from components.config import CurateConfig, SourceConfig
from components.curate.engines import LocalEngine
from components.curate.examine import read_headers
from components.curate.plan import Task, plan_sources
from components.curate.samples import Draft, Header
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
