"""What people look at: the gallery of a curation, the published directory, the embeddings."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from transformers import SiglipImageProcessor, SiglipVisionConfig, SiglipVisionModel

from components.artifacts import Dataset
from components.config import CurateConfig
from components.curate import curate, delivery
from components.curate.gallery import build_gallery, read_sample
from components.curate.publish import publish
from components.errors import ConfigError, GateFailed

LOAD = """
import json, sys
from datasets import load_dataset
loaded = load_dataset(sys.argv[1], cache_dir=sys.argv[2])
print(json.dumps({split: [row["__key__"] for row in rows] for split, rows in loaded.items()}))
"""


def test_gallery_shows_every_category_and_every_reason_with_its_evidence(
    curated: Dataset, tmp_path: Path
) -> None:
    gallery = build_gallery(curated.path.parent, per_group=4)
    assert {group.title for group in gallery.kept} == {"vqa", "caption", "digits", "chart", "clipart"}
    assert all(each.picture.startswith("data:image/png") for group in gallery.kept for each in group.samples)
    email = next(group for group in gallery.rejected if group.title == "email")
    assert email.samples[0].evidence == "someone@not-reserved.net" and not email.samples[0].picture
    assert sum(group.num_samples for group in gallery.kept) == curated.num_samples
    gallery.write(tmp_path / "page.html", "tiny")
    page = (tmp_path / "page.html").read_text()
    assert "someone@not-reserved.net" in page and "boilerplate" in page and "<script" not in page


def test_gallery_of_one_reason_shows_nothing_else(curated: Dataset) -> None:
    gallery = build_gallery(curated.path.parent, reason="boilerplate")
    assert not gallery.kept and [group.title for group in gallery.rejected] == ["boilerplate"]


def test_gallery_of_a_curation_that_a_gate_stopped_still_shows(
    curate_config: Callable[..., CurateConfig],
) -> None:
    config = curate_config(min_samples_per_category=1000)
    with pytest.raises(GateFailed):
        curate(config=config)
    (logs,) = config.execution.artifacts.glob("curate/*/logs")
    assert build_gallery(logs.parent).rejected


def test_gallery_escapes_what_strangers_wrote(curated: Dataset, tmp_path: Path) -> None:
    directory = tmp_path / "copy"
    shutil.copytree(curated.path.parent, directory)
    rejected = pd.read_parquet(directory / "logs/quarantine.parquet")
    rejected["evidence"] = "<script>alert(1)</script>"
    rejected.to_parquet(directory / "logs/quarantine.parquet")
    build_gallery(directory).write(tmp_path / "page.html", "tiny")
    assert "<script>" not in (tmp_path / "page.html").read_text()


def test_published_directory_loads_as_a_hub_dataset_and_its_card_tells_the_facts(
    curated: Dataset, tmp_path: Path
) -> None:
    card = publish(curated, tmp_path / "published", limits="Only drawings.", weights={"vqa": 0.5})
    text = card.read_text()
    _, head, body = text.split("---\n", 2)
    metadata = yaml.safe_load(head)
    assert metadata["configs"][0]["config_name"] == "default"
    assert "deb:tiny-clipart==1.0" in body and "Only drawings." in body and "boilerplate 4" in body
    assert curated.version in body and "0.500" in body and "`unseen_folders`" in body
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(tmp_path / "published"), str(tmp_path / "cache")],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = json.loads(done.stdout.splitlines()[-1])
    manifest = pd.read_parquet(curated.path / "manifest.parquet")
    assert {split: len(keys) for split, keys in loaded.items()} == manifest["split"].value_counts().to_dict()
    assert sorted(key for keys in loaded.values() for key in keys) == sorted(manifest["key"])


def test_publish_into_a_folder_with_other_things_is_refused(curated: Dataset, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="not empty"):
        publish(curated, tmp_path / "full")
    assert (tmp_path / "full" / "thesis.txt").exists()


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random SigLIP vision tower in a directory, as the hub lays it out."""
    folder = tmp_path_factory.mktemp("tower")
    torch.manual_seed(0)
    config = SiglipVisionConfig(
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=64,
        patch_size=16,
    )
    SiglipVisionModel(config).save_pretrained(folder)
    SiglipImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


def test_embeddings_are_the_features_of_the_tower(
    curate_config: Callable[..., CurateConfig], curated: Dataset, tower: Path
) -> None:
    config = curate_config("features", delivery="embeddings", tower=str(tower))
    features = curate(config=config)
    rows = {
        name: pd.read_parquet(each.path / "manifest.parquet").set_index("key")
        for name, each in (("pictures", curated), ("features", features))
    }
    assert set(rows["features"]["kind"]) == {"npy"} and rows["features"].index.equals(rows["pictures"].index)
    key = rows["features"].index[5]
    place = rows["features"].loc[key]
    members = dict(read_sample(features.path / "shards" / place["shard"], int(place["index"])))
    found = np.load(io.BytesIO(members["npy"]))
    place = rows["pictures"].loc[key]
    png = dict(read_sample(curated.path / "shards" / place["shard"], int(place["index"])))["png"]
    expected = delivery.embed([Image.open(io.BytesIO(png)).convert("RGB")], str(tower), 1)[0]
    assert found.shape == (16, 32) and found.dtype == np.float16
    np.testing.assert_allclose(found.astype(float), expected.astype(float), atol=2e-3)


def test_embeddings_of_no_tower_name_what_was_asked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no vision tower .*missing"):
        delivery.embed([Image.new("RGB", (8, 8))], str(tmp_path / "missing"), 1)


@pytest.mark.parametrize("fields", [{"delivery": "embeddings"}, {"tower": "somewhere"}])
def test_a_tower_without_embeddings_and_embeddings_without_a_tower_are_refused(
    curate_config: Callable[..., CurateConfig], fields: dict[str, str]
) -> None:
    with pytest.raises(ValueError, match="tower"):
        curate_config(**fields)


def test_raw_delivery_keeps_the_bytes_of_the_source(curate_config: Callable[..., CurateConfig]) -> None:
    dataset = curate(config=curate_config(delivery="raw"))
    manifest = pd.read_parquet(dataset.path / "manifest.parquet")
    loaded = manifest[manifest["category"] == "vqa"]
    assert len(loaded) and (loaded["sha256"] == loaded["source_sha256"]).all()
    drawn = manifest[manifest["category"] == "digits"]
    assert (drawn["source_sha256"] == "").all() and (drawn["kind"] == "png").all()
