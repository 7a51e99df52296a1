"""The config of a composed model: a tower's, a language model's, and what stands between them."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig

from components.vlm.composed.efficientnet import EfficientNetLiteConfig

OWN = {EfficientNetLiteConfig.model_type: EfficientNetLiteConfig}


@strict
class ComposedConfig(PreTrainedConfig):
    """
    Args:
        architecture: `prefix` or `gated_cross_attention`.
        grid: Patches of a tile's side.
        scale_factor: Pixel shuffle of `prefix`.
        latents, resampler_layers, cross_every, cross_heads: Of `gated_cross_attention`.
        head_bias: The language head has a bias.
    """

    model_type = "opsin_composed"
    sub_configs: ClassVar[dict[str, Any]] = {"text_config": AutoConfig, "vision_config": AutoConfig}

    vision_config: dict[str, Any] | PreTrainedConfig | None = None
    text_config: dict[str, Any] | PreTrainedConfig | None = None
    architecture: Literal["prefix", "gated_cross_attention"] = "prefix"
    image_token_id: int = 0
    grid: int = 8
    scale_factor: int = 1
    latents: int = 64
    resampler_layers: int = 2
    cross_every: int = 4
    cross_heads: int = 8
    head_bias: bool = False
    tie_word_embeddings: bool = False
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        self.vision_config = _config(self.vision_config, "siglip_vision_model")
        self.text_config = _config(self.text_config, "llama")
        super().__post_init__(**kwargs)  # type: ignore[no-untyped-call]


def _config(given: dict[str, Any] | PreTrainedConfig | None, default: str) -> PreTrainedConfig:
    if isinstance(given, PreTrainedConfig):
        return given
    fields = dict(given or {})
    kind = fields.pop("model_type", default)
    known = OWN.get(kind) or CONFIG_MAPPING[kind]
    config: PreTrainedConfig = known(**fields)
    return config
