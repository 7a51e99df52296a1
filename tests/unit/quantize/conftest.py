"""A mixture over the tiny dataset, and the tiny checkpoint really compressed, once for all tests here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from components.artifacts import Checkpoint, Dataset, Mixture, Record
from components.config import Execution, QuantizeConfig
from components.quantize import quantize


@pytest.fixture(scope="session")
def tiny_mixture(tmp_path_factory: pytest.TempPathFactory, record_writer: Callable[..., Record]) -> Mixture:
    root = tmp_path_factory.mktemp("mixture")
    mixture = Mixture(
        uri=str(root),
        digest="0" * 64,
        record=str(root / "record.json"),
        name="tiny",
        weights=dict.fromkeys(("vqa", "caption", "digits", "chart"), 0.25),
    )
    record_writer(mixture, "ablate")
    return mixture


@pytest.fixture(scope="session")
def quantize_config(tmp_path_factory: pytest.TempPathFactory) -> QuantizeConfig:
    workspace: Path = tmp_path_factory.mktemp("quantize")
    return QuantizeConfig(execution=Execution(workspace=workspace), calibration_samples=8)


@pytest.fixture(scope="session")
def compressed(
    quantize_config: QuantizeConfig,
    tiny_checkpoint: Checkpoint,
    tiny_dataset: Dataset,
    tiny_mixture: Mixture,
) -> Checkpoint:
    return quantize(
        config=quantize_config, checkpoint=tiny_checkpoint, dataset=tiny_dataset, mixture=tiny_mixture
    )
