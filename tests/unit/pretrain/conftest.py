"""A config that trains in a second, and a mixture without a stage behind it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.artifacts import Mixture, Record
from components.config import Execution, ModelConfig, Phase, PretrainConfig

TINY = ModelConfig(
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
ALL = ("vision", "connector", "language")


@pytest.fixture
def tiny_config() -> Callable[..., PretrainConfig]:
    """`tiny_config(workspace, **changes)`"""

    def build(workspace: Path, **changes: Any) -> PretrainConfig:
        fields: dict[str, Any] = {
            "execution": Execution(workspace=workspace, threads=1, device="cpu"),
            "model": TINY,
            "phases": (
                Phase(name="connector", trainable=("connector",), steps=4, learning_rate=1e-3),
                Phase(name="all", trainable=ALL, steps=16, learning_rate=3e-3),
            ),
            "pack_tokens": 256,
            "pack_images": 8,
            "packs_per_step": 2,
            "precision": "fp32",
            "validation_samples": 10,
            "log_every": 5,
            "min_end_token_rate": 0.0,
        }
        return PretrainConfig.model_validate(fields | changes)

    return build


@pytest.fixture
def mixture(tmp_path: Path, record_writer: Callable[..., Record]) -> Mixture:
    mixture = Mixture(
        uri=str(tmp_path),
        digest="mixture",
        record=str(tmp_path / "mixture.json"),
        name="stratified",
        weights={"vqa": 1.0, "caption": 1.0, "digits": 1.0, "chart": 1.0},
    )
    record_writer(mixture, "ablate")
    return mixture
