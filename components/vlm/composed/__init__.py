"""Composed models: any vision tower and any language model, as a prefix or with gated cross-attention."""

from components.vlm.composed.configuration import ComposedConfig
from components.vlm.composed.modeling import ComposedForConditionalGeneration, ComposedModel, count_images
from components.vlm.composed.processor import ComposedProcessor
from components.vlm.composed.registration import register

__all__ = [
    "ComposedConfig",
    "ComposedForConditionalGeneration",
    "ComposedModel",
    "ComposedProcessor",
    "count_images",
    "register",
]
