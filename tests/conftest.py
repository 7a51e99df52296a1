"""Fixtures that many tests share: a small dataset in the contract's layout, and a small random checkpoint."""

from __future__ import annotations

import hashlib
import io
import json
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from hypothesis import settings
from PIL import Image, ImageDraw

from components.artifacts import Artifact, Checkpoint, Dataset, Identity, Record, digest_directory
from components.config import ModelConfig
from components.vlm import build_model, build_processor, save, train_tokenizer

# No test asserts time (STYLE): a busy machine must not fail a property.
settings.register_profile("opsin", deadline=None)
settings.load_profile("opsin")

pytest_plugins = ("s3",)

COLOURS = {"red": (220, 30, 30), "green": (30, 160, 60), "blue": (40, 60, 220), "yellow": (230, 210, 40)}
GROUPS = {
    "vqa": "official_test",
    "caption": "unseen_vendor",
    "digits": "unseen_digits",
    "chart": "unseen_packages",
}
TINY_MODEL = ModelConfig(
    vocab_size=400,
    vision_layers=1,
    vision_width=32,
    vision_heads=2,
    text_layers=1,
    text_width=64,
    text_heads=2,
    text_kv_heads=2,
    text_mlp=64,
)


@pytest.fixture(scope="session")
def tiny_model() -> ModelConfig:
    """Of some 50k parameters."""
    return TINY_MODEL


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """96 synthetic samples of the four categories: 64 train, 16 validation, 16 test."""
    root = tmp_path_factory.mktemp("dataset")
    output = root / "output"
    (output / "shards").mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    for split, count in (("train", 16), ("validation", 4), ("test", 4)):
        samples = [_sample(category, split, index) for index in range(count) for category in GROUPS]
        rows += _write_shard(output / "shards" / f"{split}-00000.tar", samples)
    pd.DataFrame(rows).to_parquet(output / "manifest.parquet")
    dataset = Dataset(
        uri=str(output),
        digest=digest_directory(output),
        record=str(root / "record.json"),
        name="tiny",
        version="0" * 32,
        num_samples=len(rows),
    )
    write_record(dataset, "curate", dataset_versions={"tiny": "0" * 32})
    return dataset


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Dataset) -> Checkpoint:
    """A random Idefics3 of some 50k parameters whose tokenizer knows the tiny dataset."""
    from components.loader import read_samples

    root = tmp_path_factory.mktemp("checkpoint")
    turns = [turn for sample in read_samples(tiny_dataset, "train") for turn in sample.turns]
    texts = [turn.question for turn in turns] + [f" {turn.answer}" for turn in turns]
    tokenizer = train_tokenizer(texts, TINY_MODEL.vocab_size)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model(TINY_MODEL, tokenizer)
    contract = save(model, build_processor(tokenizer, TINY_MODEL), root / "output")
    checkpoint = Checkpoint(
        uri=str(root / "output"),
        digest=digest_directory(root / "output"),
        record=str(root / "record.json"),
        contract=contract,
    )
    write_record(checkpoint, "pretrain")
    return checkpoint


@pytest.fixture(scope="session")
def record_writer() -> Callable[..., Record]:
    """`write_record`, for tests that make artifacts of their own."""
    return write_record


def write_record(artifact: Artifact, stage: str, **fields: Any) -> Record:
    """Put a record beside an artifact that no stage made."""
    identity = Identity(stage=stage, config={}, code={}, parents={})
    record = Record(
        stage=stage,
        fingerprint=identity.fingerprint,
        artifact=artifact.model_dump(),
        identity=identity,
        config={},
        parents=(),
        git_commit="unknown",
        environment="",
        hardware={},
        started="2026-01-01T00:00:00+00:00",
        seconds=0.0,
        **fields,
    )
    Path(artifact.record).write_text(record.model_dump_json())
    return record


def _sample(category: str, split: str, index: int) -> tuple[dict[str, Any], bytes]:
    """Fields and PNG of a sample; every answer can be read from the image."""
    # zlib-free and stable across processes, unlike hash().
    noise = random.Random(f"{category}-{split}-{index}")
    image = Image.new("RGB", (64, 64), (noise.randrange(256), noise.randrange(256), noise.randrange(256)))
    draw = ImageDraw.Draw(image)
    colour = noise.choice(sorted(COLOURS))
    number = str(noise.randrange(10, 100))
    draw.rectangle((8 + index % 8, 8, 40, 40), fill=COLOURS[colour])
    turns = {
        "vqa": [
            ("What color is the shape?", colour),
            ("Is the shape red?", "yes" if colour == "red" else "no"),
        ],
        "caption": [("Describe the picture.", f"a {colour} rectangle")],
        "digits": [("Which digits are written?", number)],
        "chart": [("How many rows has the table?", number), ("What color is the bar?", colour)],
    }[category]
    if category in ("digits", "chart"):
        draw.text((44, 44), number, fill=(255, 255, 255))
    png = io.BytesIO()
    image.save(png, "PNG")
    fields = {
        "key": f"{category}-{split}-{index:04d}",
        "category": category,
        "group": GROUPS[category] if split == "test" else "",
        "split": split,
        "source": "synthetic",
        "turns": [{"question": question, "answer": answer} for question, answer in turns],
    }
    return fields, png.getvalue()


def _write_shard(path: Path, samples: list[tuple[dict[str, Any], bytes]]) -> list[dict[str, Any]]:
    """Write a shard; give the manifest's rows."""
    rows = []
    with tarfile.open(path, "w") as tar:
        for index, (fields, png) in enumerate(samples):
            for suffix, content in (("png", png), ("json", json.dumps(fields).encode())):
                member = tarfile.TarInfo(f"{fields['key']}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
            text = json.dumps(fields["turns"])
            rows.append(
                {
                    **{name: fields[name] for name in ("key", "split", "group", "category", "source")},
                    "shard": path.name,
                    "index": index,
                    "source_version": "1",
                    "licence": "CC0-1.0",
                    "original_id": fields["key"],
                    "width": 64,
                    "height": 64,
                    "image_sha256": hashlib.sha256(png).hexdigest(),
                    "phash": hashlib.sha256(png).hexdigest()[:16],
                    "text_sha256": hashlib.sha256(text.encode()).hexdigest(),
                    "num_turns": len(fields["turns"]),
                    "num_chars": len(text),
                    "bytes": len(png),
                }
            )
    return rows
