"""The gates that read the tensors and files themselves, fed by hand-made weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from components.quantize.gate import Weights, compare, language_only, same_files

LINEAR = "model.text_model.layers.0.mlp.up_proj.weight"
NORM = "model.text_model.layers.0.input_layernorm.weight"
VISION = "model.vision_model.encoder.layers.0.mlp.fc1.weight"
UNTOUCHED = (
    VISION,
    "model.connector.modality_projection.proj.weight",
    "model.text_model.embed_tokens.weight",
    "lm_head.weight",
)


def _before() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(4, 4, generator=generator) for name in (LINEAR, *UNTOUCHED)}
    return weights | {NORM: torch.ones(4)}


def _int8(weights: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    scale = weights[name].abs().amax(1, keepdim=True) / 127
    packed = (weights[name] / scale).round().to(torch.int8)
    return weights | {name: packed, name.replace(".weight", ".weight_scale"): scale}


def _weights(tensors: dict[str, torch.Tensor], directory: Path) -> Weights:
    directory.mkdir(exist_ok=True)
    names = sorted(tensors)
    # Two shards, as large models have them.
    save_file({name: tensors[name] for name in names[::2]}, directory / "model-00001-of-00002.safetensors")
    save_file({name: tensors[name] for name in names[1::2]}, directory / "model-00002-of-00002.safetensors")
    return Weights(directory)


def _judge(after: dict[str, torch.Tensor], tmp_path: Path) -> tuple[bool, str]:
    before = _weights(_before(), tmp_path / "before")
    result = language_only(compare(before, _weights(after, tmp_path / "after")))
    return result.passed, result.observed


def test_language_only_linears_int8_and_norm_rescaled_passes(tmp_path: Path) -> None:
    after = _int8(_before(), LINEAR) | {NORM: torch.full((4,), 0.5)}
    passed, observed = _judge(after, tmp_path)
    assert passed, observed


def test_language_only_vision_tower_quantized_fails_and_names_it(tmp_path: Path) -> None:
    passed, observed = _judge(_int8(_int8(_before(), LINEAR), VISION), tmp_path)
    assert not passed
    assert VISION in observed


@pytest.mark.parametrize("name", UNTOUCHED)
def test_language_only_one_changed_value_elsewhere_fails(name: str, tmp_path: Path) -> None:
    after = _int8(_before(), LINEAR)
    after[name] = after[name].clone()
    after[name][0, 0] += 1e-6
    passed, observed = _judge(after, tmp_path)
    assert not passed
    assert name in observed


def test_language_only_nothing_compressed_fails(tmp_path: Path) -> None:
    passed, observed = _judge(_before(), tmp_path)
    assert not passed
    assert LINEAR in observed


def test_language_only_tensor_lost_fails(tmp_path: Path) -> None:
    after = _int8(_before(), LINEAR)
    del after[VISION]
    assert not _judge(after, tmp_path)[0]


def test_language_only_tensor_from_nowhere_fails(tmp_path: Path) -> None:
    after = _int8(_before(), LINEAR) | {VISION.replace(".weight", ".weight_scale"): torch.ones(4, 1)}
    assert not _judge(after, tmp_path)[0]


def test_same_files_changed_chat_template_fails_and_equal_passes(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    (before / "chat_template.jinja").write_text("{{ messages }}")
    (before / "tokenizer.json").write_text("{}")
    shutil.copytree(before, after)
    names = ["chat_template.jinja", "tokenizer.json"]
    assert same_files(before, after, names).passed
    (after / "chat_template.jinja").write_text("{{ other }}")
    changed = same_files(before, after, names)
    assert not changed.passed
    assert "chat_template.jinja" in changed.observed
    (after / "chat_template.jinja").unlink()
    assert not same_files(before, after, names).passed
