"""Datasets delivered as embeddings: trained on as if the tower had looked, and it never runs."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_parts import llama, siglip

from components.artifacts import Dataset, Record, digest_directory
from components.config import EvaluateConfig, Execution, ModelConfig, Phase, PretrainConfig
from components.errors import ConfigError, SourceError
from components.evaluate import evaluate
from components.loader import read_samples
from components.loader.pixels import decode
from components.pretrain import pretrain
from components.vlm import build_model, load_model, local_sources, source_processor
from components.vlm.families import family_of


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelConfig:
    root = tmp_path_factory.mktemp("parts")
    return ModelConfig(
        vision=str(siglip(root / "siglip")), language=str(llama(root / "llama")), image_size=32
    )


@pytest.fixture
def delivered(
    tmp_path: Path, tiny_dataset: Dataset, model: ModelConfig, record_writer: Callable[..., Record]
) -> Dataset:
    """The tiny dataset with the tower's features in every picture's place."""
    local = local_sources(model, tmp_path)
    family = family_of(source_processor(local))
    tower = build_model(local, family.tokenizer).eval()
    output = tmp_path / "delivered" / "output"
    shutil.copytree(tiny_dataset.path, output)
    for split in ("train", "validation", "test"):
        with tarfile.open(output / "shards" / f"{split}-00000.tar", "w") as tar:
            for sample in read_samples(tiny_dataset, split):
                pixels = decode(sample.images[0], family, (0, 0))
                with torch.inference_mode():
                    seen = family.tower(tower, family.image_inputs(torch.from_numpy(pixels), [(0, 0)]))
                array, turns = io.BytesIO(), [vars(turn) for turn in sample.turns]
                np.save(array, seen[0].to(torch.float16).numpy())
                names = ("key", "category", "group", "split")
                fields = {name: getattr(sample, name) for name in names} | {"turns": turns}
                for suffix, content in (("npy", array.getvalue()), ("json", json.dumps(fields).encode())):
                    member = tarfile.TarInfo(f"{sample.key}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    dataset = tiny_dataset.model_copy(
        update={
            "uri": str(output),
            "digest": digest_directory(output),
            "record": str(tmp_path / "delivered" / "record.json"),
        }
    )
    record = record_writer(dataset, "curate").model_copy(update={"config": {"tower": model.vision}})
    Path(dataset.record).write_text(record.model_dump_json())
    return dataset


def _config(
    build: Callable[..., PretrainConfig], workspace: Path, model: ModelConfig, **more: Any
) -> PretrainConfig:
    phases = (Phase(name="some", trainable=("connector", "language"), steps=12, learning_rate=3e-3),)
    return build(workspace, **({"model": model, "phases": phases} | more))


def test_pretrain_on_delivered_features_equals_pretrain_on_the_pictures(
    tiny_dataset: Dataset,
    delivered: Dataset,
    tmp_path: Path,
    mixture: Any,
    tiny_config: Callable[..., PretrainConfig],
    model: ModelConfig,
) -> None:
    pictures = pretrain(
        config=_config(tiny_config, tmp_path / "a", model), dataset=tiny_dataset, mixture=mixture
    )
    features = pretrain(
        config=_config(tiny_config, tmp_path / "b", model), dataset=delivered, mixture=mixture
    )
    gates = {gate.name: gate.passed for gate in features.load_record().gates}
    assert gates == {"packing_equivalence": True, "loss_sane": True, "generation_stops": True}
    # Features of pictures are cached in float16 as well: the same numbers.
    before, after = (load_model(each.path).state_dict() for each in (pictures, features))
    assert max(float((before[name] - after[name]).abs().max()) for name in before) < 1e-5
    with pytest.raises(SourceError, match="features"):
        evaluate(
            config=EvaluateConfig(execution=Execution(workspace=tmp_path, threads=1, device="cpu")),
            checkpoint=features,
            dataset=delivered,
            label="pretrain",
            baseline=None,
        )


def test_pretrain_on_features_of_another_tower_or_with_the_tower_trained_is_refused(
    delivered: Dataset,
    tmp_path: Path,
    mixture: Any,
    tiny_config: Callable[..., PretrainConfig],
    model: ModelConfig,
) -> None:
    phases = (Phase(name="all", trainable=("vision", "connector"), steps=2, learning_rate=1e-3),)
    with pytest.raises(ConfigError, match="phase 'all'"):
        pretrain(
            config=_config(tiny_config, tmp_path, model, phases=phases), dataset=delivered, mixture=mixture
        )
    record = json.loads(Path(delivered.record).read_text())
    record["config"]["tower"] = "another"
    Path(delivered.record).write_text(json.dumps(record))
    with pytest.raises(ConfigError, match="tower 'another'"):
        pretrain(config=_config(tiny_config, tmp_path, model), dataset=delivered, mixture=mixture)
