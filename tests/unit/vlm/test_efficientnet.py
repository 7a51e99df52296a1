"""EfficientNet-Lite0 out of its package's file: the same function with normalizations folded in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_parts import llama
from torch.nn import functional

from components.config import ModelConfig
from components.errors import ConfigError
from components.vlm import build_model, load_model, local_sources, save, source_processor
from components.vlm.composed.efficientnet import (
    EPSILON,
    NORM,
    EfficientNetLite,
    EfficientNetLiteConfig,
    _names,
    _sizes,
    read_weights,
)

FILE = "efficientnet-lite0-57934424.pth"
Weights = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in the package's names, with statistics as training leaves them."""
    torch.manual_seed(0)
    shapes = {
        name: each.shape for name, each in EfficientNetLite(EfficientNetLiteConfig()).named_parameters()
    }
    weights: Weights = {"_fc.weight": torch.zeros(1000, 1280), "_fc.bias": torch.zeros(1000)}
    for ours, convolution, norm in _names():
        kernel = torch.randn(shapes[f"{ours}.weight"])
        weights[f"{convolution}.weight"] = kernel / kernel[0].numel() ** 0.5
        channels = len(kernel)
        statistics = (
            1 + 0.2 * torch.randn(channels),
            0.2 * torch.randn(channels),
            0.2 * torch.randn(channels),
            0.5 + torch.rand(channels),
        )
        weights |= {f"{norm}.{each}": value for each, value in zip(NORM, statistics, strict=True)}
        weights[f"{norm}.num_batches_tracked"] = torch.tensor(1)
    directory = tmp_path_factory.mktemp("efficientnet")
    torch.save(weights, directory / FILE)
    return directory


def reference(weights: Weights, x: torch.Tensor) -> torch.Tensor:
    """The network as the package's own code runs it: convolution, padding as TensorFlow's, normalization."""

    def layer(x: torch.Tensor, convolution: str, norm: str, stride: int = 1) -> torch.Tensor:
        kernel = weights[f"{convolution}.weight"]
        size, side = x.shape[-1], kernel.shape[-1]
        total = max((-(-size // stride) - 1) * stride + side - size, 0)
        pads = [total // 2, total - total // 2] * 2
        groups = x.shape[1] if kernel.shape[1] == 1 and side > 1 else 1
        x = functional.conv2d(functional.pad(x, pads), kernel, stride=stride, groups=groups)
        weight, bias, mean, variance = (weights[f"{norm}.{each}"] for each in NORM)
        return functional.batch_norm(x, mean, variance, weight, bias, eps=EPSILON)

    x = functional.relu6(layer(x, "_conv_stem", "_bn0", 2))
    for index, (channels, out, _, stride, expansion) in enumerate(_sizes()):
        name, before = f"_blocks.{index}", x
        if expansion > 1:
            x = functional.relu6(layer(x, f"{name}._expand_conv", f"{name}._bn0"))
        x = functional.relu6(layer(x, f"{name}._depthwise_conv", f"{name}._bn1", stride))
        x = layer(x, f"{name}._project_conv", f"{name}._bn2")
        x = x + before if stride == 1 and channels == out else x
    return functional.relu6(layer(x, "_conv_head", "_bn1"))


@pytest.mark.parametrize("side", [64, 96])
def test_folded_tower_gives_what_the_packages_network_gives(packaged: Path, side: int) -> None:
    model = EfficientNetLite(EfficientNetLiteConfig()).eval()
    model.load_state_dict(read_weights(packaged / FILE))
    pixels = torch.randn(2, 3, side, side)
    with torch.inference_mode():
        ours = model(pixels).last_hidden_state
        theirs = reference(torch.load(packaged / FILE, weights_only=True), pixels)
    assert ours.shape == (2, 1280, side // 32, side // 32)
    assert float(theirs.std()) > 0.05
    assert torch.allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [("drop", r"lack _blocks\.3\._bn1\.running_var"), ("add", r"nothing takes the weights _blocks\.16")],
)
def test_file_of_another_network_is_refused(
    packaged: Path, tmp_path: Path, change: str, message: str
) -> None:
    weights: Weights = torch.load(packaged / FILE, weights_only=True)
    if change == "drop":
        del weights["_blocks.3._bn1.running_var"]
    else:
        weights["_blocks.16._expand_conv.weight"] = torch.zeros(1)
    torch.save(weights, tmp_path / FILE)
    with pytest.raises(ConfigError, match=message):
        read_weights(tmp_path / FILE)


def test_composed_model_with_the_tower_trains_frozen_and_loads_again(packaged: Path, tmp_path: Path) -> None:
    config = ModelConfig(
        architecture="prefix",
        vision=str(packaged),
        language=str(llama(tmp_path / "llama")),
        image_size=64,
    )
    local = local_sources(config, tmp_path)
    assert (local.patch_size, local.image_tokens) == (32, 1)
    processor = source_processor(local)
    assert processor.image_processor.image_mean[0] == pytest.approx(127 / 255)
    model = build_model(local, processor.tokenizer)
    pixels = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        training, evaluating = model.train().model.tower(pixels), model.eval().model.tower(pixels)
    assert training.shape == (1, 4, 1280)
    assert torch.equal(training, evaluating), "a frozen tower's features do not depend on the mode"
    save(model, processor, tmp_path / "saved")
    with torch.inference_mode():
        assert torch.equal(load_model(tmp_path / "saved").model.tower(pixels), evaluating)
