"""A config that trains in a second, and a mixture without a stage behind it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.artifacts import Dataset, Mixture, Record
from components.config import Execution, ModelConfig, Phase, PretrainConfig
from components.fingerprint import ROOT

TRAINING = """
import sys
from pathlib import Path
from components.artifacts import Dataset, Mixture, Record
from components.config import PretrainConfig
from components.pretrain import pretrain

config = PretrainConfig.model_validate_json(Path(sys.argv[1]).read_text())
given = [Record.load(Path(path)).artifact for path in sys.argv[2:]]
pretrain(config=config, dataset=Dataset.model_validate(given[0]), mixture=Mixture.model_validate(given[1]))
"""
ALL = ("vision", "connector", "language")


@pytest.fixture
def tiny_config(tiny_model: ModelConfig) -> Callable[..., PretrainConfig]:
    """`tiny_config(workspace, **changes)`"""

    def build(workspace: Path, **changes: Any) -> PretrainConfig:
        fields: dict[str, Any] = {
            "execution": Execution(workspace=workspace, threads=1, device="cpu"),
            "model": tiny_model,
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
def training_process(
    tmp_path: Path, tiny_dataset: Dataset, mixture: Mixture
) -> Callable[[PretrainConfig], subprocess.Popen[bytes]]:
    """`training_process(config)`: the stage in a process of its own, to be waited for or killed."""

    def start(config: PretrainConfig) -> subprocess.Popen[bytes]:
        path = tmp_path / "config.json"
        path.write_text(config.model_dump_json())
        arguments = [str(path), tiny_dataset.record, mixture.record]
        return subprocess.Popen([sys.executable, "-c", TRAINING, *arguments], cwd=ROOT)

    return start


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
