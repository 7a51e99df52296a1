"""Every architecture goes through the same stage functions: trained, tuned, evaluated, exported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_parts import llama, siglip

from components.artifacts import Dataset, Mixture
from components.config import (
    EvaluateConfig,
    Execution,
    ExportConfig,
    ModelConfig,
    Phase,
    PretrainConfig,
    SftConfig,
)
from components.evaluate import evaluate
from components.export import export
from components.pretrain import pretrain
from components.sft import sft
from components.vlm import load_model


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A vision tower and a language model, each in a directory of its own."""
    root = tmp_path_factory.mktemp("parts")
    return {"vision": str(siglip(root / "siglip")), "language": str(llama(root / "llama", layers=4))}


@pytest.mark.parametrize("architecture", ["idefics3", "prefix", "gated_cross_attention"])
def test_stages_any_architecture_from_parts_is_trained_tuned_evaluated_and_exported(
    tiny_dataset: Dataset,
    tmp_path: Path,
    mixture: Mixture,
    tiny_config: Callable[..., PretrainConfig],
    parts: dict[str, str],
    architecture: str,
) -> None:
    model = ModelConfig(architecture=architecture, image_size=32, latents=6, cross_every=2, **parts)  # type: ignore[arg-type]
    phases = (
        Phase(name="connector", trainable=("connector",), steps=10, learning_rate=3e-3),
        Phase(name="language", trainable=("connector", "language"), steps=40, learning_rate=3e-3),
    )
    workspace = Execution(workspace=tmp_path, threads=1, device="cpu")
    config = tiny_config(tmp_path, model=model, phases=phases)
    trained = pretrain(config=config, dataset=tiny_dataset, mixture=mixture)
    gates = {gate.name: gate.passed for gate in trained.load_record().gates}
    assert gates["packing_equivalence"]
    tuned = sft(
        config=SftConfig(execution=workspace, steps=4, packs_per_step=1, pack_tokens=256, pack_images=8),
        checkpoint=trained,
        dataset=tiny_dataset,
        mixture=mixture,
    )
    scores = evaluate(
        config=EvaluateConfig(execution=workspace, max_new_tokens=8, min_end_token_rate=0.0, bootstrap=100),
        checkpoint=tuned,
        dataset=tiny_dataset,
        label="sft",
        baseline=None,
    )
    assert "score/vqa/official_test" in scores.load_record().metrics
    bundle = export(
        config=ExportConfig(execution=workspace, parity_samples=2),
        checkpoint=tuned,
        reference=tuned,
        dataset=tiny_dataset,
    )
    assert (bundle.path / "vllm" / "model.safetensors").is_file()
    assert (bundle.path / "onnx").exists() == (architecture == "idefics3")
    before, after = (load_model(path).state_dict() for path in (tuned.path, bundle.path / "vllm"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
