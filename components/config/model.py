"""What is trained: the `model` part of `[pretrain]`."""

from __future__ import annotations

from pydantic import Field, model_validator

from components.config.base import Frozen


class ModelConfig(Frozen):
    """An Idefics3-architecture model built from scratch."""

    vocab_size: int = Field(2048, ge=300)
    image_size: int = Field(64, ge=16)
    patch_size: int = Field(8, ge=2)
    vision_layers: int = Field(4, ge=1)
    vision_width: int = Field(128, ge=16)
    vision_heads: int = Field(4, ge=1)
    scale_factor: int = Field(2, ge=1)
    """Pixel shuffle: this many image patches squared become one image token."""
    text_layers: int = Field(5, ge=1)
    text_width: int = Field(192, ge=16)
    text_heads: int = Field(6, ge=1)
    text_kv_heads: int = Field(6, ge=1)
    text_mlp: int = Field(512, ge=16)
    max_positions: int = Field(1024, ge=64)

    @model_validator(mode="after")
    def _shapes_fit(self) -> ModelConfig:
        if self.text_width % self.text_heads or (self.text_width // self.text_heads) % 32:
            raise ValueError("text_width / text_heads must be a multiple of 32 (vLLM's CPU attention)")
        if self.image_size % (self.patch_size * self.scale_factor):
            raise ValueError("image_size must be a multiple of patch_size * scale_factor")
        return self

    @property
    def image_tokens(self) -> int:
        """Image tokens per image."""
        return (self.image_size // self.patch_size // self.scale_factor) ** 2
