"""The dataset card: every snippet runs, licences as the hub reads them, mixture, labels."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from made import encode_image
from PIL import Image

from components.artifacts import Dataset
from components.config import CurateConfig, SourceConfig
from components.curate import curate
from components.curate.publish import publish

SHOW = """
import json
print(json.dumps({name: {split: rows.column_names for split, rows in found.items()}
                  for name, found in dict(globals()).items() if type(found).__name__ == "DatasetDict"}))
"""


def _noise(seed: int) -> Image.Image:
    """Coarse, so that no two are near duplicates."""
    small = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((64, 64))


@pytest.fixture
def mixed(curate_config: Callable[..., CurateConfig], tmp_path: Path) -> Dataset:
    """PNG and JPEG pictures as they came, and texts without any; with labels of a taxonomy."""
    folder = tmp_path / "mixed"
    number = 0
    for split, count in (("train", 24), ("validation", 12), ("test", 12)):
        (folder / split).mkdir(parents=True)
        for place in range(count):
            kind = ("PNG", "JPEG")[place % 2]
            path = folder / split / f"{number:03d}.{kind.lower()}"
            path.write_bytes(encode_image(_noise(number), kind))
            label = ("shape/circle", "shape/disc")[place % 3 == 0]
            described = {"caption": f"circle number {number} of this collection", "label": label}
            path.with_suffix(".json").write_text(json.dumps(described))
            number += 1
    texts = tmp_path / "texts"
    texts.mkdir()
    for split in ("train", "validation", "test"):
        with tarfile.open(texts / f"{split}-0.tar", "w") as tar:
            for place in range(6):
                turns = {"question": f"What is {split} {place} plus one?", "answer": f"{split} {place + 1}"}
                content = json.dumps(turns).encode()
                info = tarfile.TarInfo(f"{split}{place}.json")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    circles = SourceConfig(locator=f"folder:{folder}", category="circle", licence="MIT")
    words = SourceConfig(
        locator=f"webdataset:{texts}/*.tar",
        category="words",
        licence="Apache-2.0",
        options={"text_only": True},
    )
    return curate(config=curate_config(delivery="raw", sources=(circles, words), max_rejected_share=0.9))


def _head(card: Path) -> dict[str, Any]:
    metadata = yaml.safe_load(card.read_text().split("---\n", 2)[1])
    assert isinstance(metadata, dict)
    return metadata


def test_card_of_several_kinds_has_a_snippet_that_runs(mixed: Dataset, tmp_path: Path) -> None:
    manifest = pd.read_parquet(mixed.path / "manifest.parquet")
    kinds = set(manifest["kind"])
    assert kinds == {"png", "jpg", "text"}
    card = publish(mixed, tmp_path / "published").read_text()
    (snippet,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    snippet = snippet.replace("path/to/this/directory", str(tmp_path / "published"))
    environment = {"HF_DATASETS_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", snippet + SHOW], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert set(loaded) == kinds and all("train" in found for found in loaded.values())
    assert "jpg" in loaded["jpg"]["train"] and "png" in loaded["png"]["train"]
    assert "Several kinds of samples (jpg, png, text)" in card


def test_card_of_one_kind_warns_of_nothing(curated: Dataset, tmp_path: Path) -> None:
    assert "Several kinds" not in publish(curated, tmp_path / "published").read_text()


def test_card_says_that_no_mixture_was_searched_or_which_was_found(curated: Dataset, tmp_path: Path) -> None:
    assert "Mixture: none searched" in publish(curated, tmp_path / "published").read_text()
    text = publish(curated, tmp_path / "published", weights={"vqa": 0.625}).read_text()
    assert "| 0.625 |" in text and "none searched" not in text


def _with_diversity(dataset: Dataset, folder: Path) -> Dataset:
    """The same dataset, its record saying that labels came from a taxonomy."""
    shutil.copytree(dataset.path.parent, folder)
    record = json.loads((folder / "record.json").read_text())
    record["config"]["diversity"] = {"taxonomy": {"shape": ["circle", "disc"]}}
    (folder / "record.json").write_text(json.dumps(record))
    return dataset.model_copy(update={"uri": str(folder / "output"), "record": str(folder / "record.json")})


def test_card_counts_the_labels_of_a_taxonomy(mixed: Dataset, tmp_path: Path) -> None:
    assert "## Labels" not in publish(mixed, tmp_path / "published").read_text()
    labelled = _with_diversity(mixed, tmp_path / "labelled")
    manifest = pd.read_parquet(mixed.path / "manifest.parquet")
    counts = [
        int(((manifest["label"] == "shape/circle") & (manifest["split"] == split)).sum())
        for split in ("train", "validation", "test")
    ]
    text = publish(labelled, tmp_path / "published").read_text()
    assert "## Labels" in text and f"| shape/circle | {counts[0]} | {counts[1]} | {counts[2]} |" in text


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        (["CC-BY-4.0"], {"license": "cc-by-4.0"}),
        (["GPL-3.0-or-later", "ODbL-1.0"], {"license": ["gpl-3.0", "odbl"]}),
        (["MIT; Apache-2.0", "MIT"], {"license": ["apache-2.0", "mit"]}),
        (["My Own Terms"], {"license": "other", "license_name": "my-own-terms"}),
        (["My Own Terms", "MIT"], {"license": "other", "license_name": "per-sample"}),
    ],
)
def test_card_names_licences_as_the_hub_does(
    curated: Dataset, tmp_path: Path, declared: list[str], expected: dict[str, Any]
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(curated.path, folder)
    manifest = pd.read_parquet(folder / "manifest.parquet")
    manifest["licence"] = [declared[place % len(declared)] for place in range(len(manifest))]
    (folder / "manifest.parquet").unlink()
    manifest.to_parquet(folder / "manifest.parquet")
    head = _head(publish(curated.model_copy(update={"uri": str(folder)}), tmp_path / "published"))
    assert {key: value for key, value in head.items() if key.startswith("license")} == expected
