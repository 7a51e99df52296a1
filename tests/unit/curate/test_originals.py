"""The source's own picture once more: as large as is asked for, or a reason."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from made import folder_config, write_folder
from PIL import Image

from components.config import CurateConfig, ImageLimits
from components.curate.originals import DRAWN_SIDE, Original
from components.curate.plan import Task, plan_sources
from components.curate.samples import Reason


def tasks(config: CurateConfig) -> list[Task]:
    return [each.task for each in plan_sources(config).samples]


def opened(original: bytes | Reason) -> Image.Image:
    assert isinstance(original, bytes)
    return Image.open(io.BytesIO(original))


@pytest.mark.parametrize(("side", "size"), [(100, (100, 80)), (1000, (200, 160))])
def test_original_is_brought_down_and_never_enlarged(
    tmp_path: Path, curate_config: Callable[..., CurateConfig], side: int, size: tuple[int, int]
) -> None:
    write_folder(tmp_path / "photos", range(1))
    (task,) = tasks(folder_config(curate_config, tmp_path / "photos", image_size=32))
    picture = opened(Original(task, ImageLimits())(side))
    assert picture.size == size and picture.format == "PNG"


def test_original_that_is_drawn_is_drawn_larger_but_not_without_bound(
    curate_config: Callable[..., CurateConfig],
) -> None:
    task = next(each for each in tasks(curate_config(image_size=32)) if each.reader == "emoji")
    assert opened(Original(task, ImageLimits())(200)).size == (200, 200)
    assert max(opened(Original(task, ImageLimits())(5000)).size) == DRAWN_SIDE


def test_original_that_is_gone_or_broken_gives_a_reason(
    tmp_path: Path, curate_config: Callable[..., CurateConfig]
) -> None:
    write_folder(tmp_path / "photos", range(2))
    cut, gone = tasks(folder_config(curate_config, tmp_path / "photos"))
    content = (tmp_path / "photos/0.png").read_bytes()
    (tmp_path / "photos/0.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "photos/1.png").unlink()
    codes = [Original(task, ImageLimits())(100) for task in (cut, gone)]
    assert [each.code for each in codes if isinstance(each, Reason)] == ["truncated", "unreadable"]
