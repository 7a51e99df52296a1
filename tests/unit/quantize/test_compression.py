"""The quantize stage with the real llm-compressor in its own environment."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from components.artifacts import Checkpoint, Dataset, Mixture, digest_directory
from components.config import QuantizeConfig
from components.errors import ContractMismatch, GateFailed
from components.loader import read_samples
from components.quantize import calibration, compression, quantize
from components.vlm import load_model, load_processor, prompt_inputs


def test_quantize_tiny_checkpoint_compresses_the_language_model_only(
    compressed: Checkpoint, tiny_checkpoint: Checkpoint
) -> None:
    record = compressed.load_record()
    assert compressed.quantized
    assert compressed.contract == tiny_checkpoint.contract
    assert [(gate.name, gate.passed) for gate in record.gates] == [
        ("language_model_only", True),
        ("processor_unchanged", True),
    ]
    assert record.metrics["tensors_compressed"] == 7  # q, k, v, o, gate, up, down of one layer
    assert record.metrics["bytes_after"] < record.metrics["bytes_before"]
    config = json.loads((compressed.path / "config.json").read_text())
    assert config.pop("quantization_config")["quant_method"] == "compressed-tensors"
    assert config == json.loads((tiny_checkpoint.path / "config.json").read_text())


def test_quantize_tiny_checkpoint_answers_nearly_the_same(
    compressed: Checkpoint, tiny_checkpoint: Checkpoint, tiny_dataset: Dataset
) -> None:
    processor = load_processor(compressed.path)
    examples = calibration.draw(read_samples(tiny_dataset, "test"), {"vqa": 1.0}, 2, seed=0)
    asked = examples[0].sample.asked(examples[0].turn)
    inputs = prompt_inputs(processor, [asked.prompt()])
    with torch.no_grad():
        ours = load_model(compressed.path, expected_contract=compressed.contract)(**inputs).logits
        theirs = load_model(tiny_checkpoint.path)(**inputs).logits
    assert 0 < float((ours - theirs).abs().max()) < 0.1 * float(theirs.abs().max())


def test_quantize_same_inputs_in_another_workspace_gives_the_same_bytes(
    compressed: Checkpoint,
    quantize_config: QuantizeConfig,
    tiny_checkpoint: Checkpoint,
    tiny_dataset: Dataset,
    tiny_mixture: Mixture,
    tmp_path: Path,
) -> None:
    elsewhere = quantize_config.execution.model_copy(update={"workspace": tmp_path})
    again = quantize(
        config=quantize_config.model_copy(update={"execution": elsewhere}),
        checkpoint=tiny_checkpoint,
        dataset=tiny_dataset,
        mixture=tiny_mixture,
    )
    assert again.digest == compressed.digest


def test_quantize_vision_tower_by_mistake_is_stopped(
    quantize_config: QuantizeConfig,
    tiny_checkpoint: Checkpoint,
    tiny_dataset: Dataset,
    tiny_mixture: Mixture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The usual way it happens: plain rounding (which, unlike GPTQ, takes any layer) and a forgotten ignore.
    right = compression.SCRIPT.read_text()
    mistaken = right.replace('"re:.*vision_model.*", ', "").replace(
        "modifiers.gptq import GPTQModifier",
        "modifiers.quantization import QuantizationModifier as GPTQModifier",
    )
    assert mistaken.count("vision_model") < right.count("vision_model")
    (tmp_path / "compress.py").write_text(mistaken)
    monkeypatch.setattr(compression, "SCRIPT", tmp_path / "compress.py")
    with pytest.raises(GateFailed, match=r"language_model_only.*vision_model"):
        quantize(
            config=quantize_config.model_copy(update={"seed": 1}),
            checkpoint=tiny_checkpoint,
            dataset=tiny_dataset,
            mixture=tiny_mixture,
        )


def test_quantize_changed_chat_template_is_refused_before_any_work(
    quantize_config: QuantizeConfig,
    tiny_checkpoint: Checkpoint,
    tiny_dataset: Dataset,
    tiny_mixture: Mixture,
    tmp_path: Path,
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(tiny_checkpoint.path, changed)
    template = changed / "chat_template.jinja"
    template.write_text(template.read_text() + "!")
    checkpoint = tiny_checkpoint.model_copy(update={"uri": str(changed), "digest": digest_directory(changed)})
    with pytest.raises(ContractMismatch, match="chat_template"):
        quantize(config=quantize_config, checkpoint=checkpoint, dataset=tiny_dataset, mixture=tiny_mixture)
