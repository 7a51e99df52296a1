"""Of copies the best stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
from made import folder_config, photo, write_folder
from PIL import Image

from components.config import CurateConfig
from components.curate import curate, preflight


def test_larger_picture_of_two_copies_stays_and_at_one_size_the_less_compressed(
    curate_config: Callable[..., CurateConfig], tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    for split, numbers in (("train", range(9)), ("validation", range(9, 12)), ("test", range(12, 15))):
        write_folder(folder / split, numbers)
    for name, number, size, quality in (
        ("a-small", 100, (150, 120), 95),
        ("b-large", 100, (300, 240), 95),
        ("a-coarse", 101, (200, 160), 40),
        ("b-fine", 101, (200, 160), 95),
    ):
        photo(number).resize(size, Image.Resampling.LANCZOS).save(
            folder / "train" / f"{name}.jpg", quality=quality
        )
        (folder / "train" / f"{name}.txt").write_text("a picture that lies here twice")
    dataset = curate(config=preflight(folder_config(curate_config, folder)))
    rejected = pd.read_parquet(dataset.path.parent / "logs" / "quarantine.parquet")
    gone = set(rejected.loc[rejected["reason"] == "near_duplicate", "original_id"])
    assert {Path(each).stem for each in gone} == {"a-small", "a-coarse"}
