"""Composed models: any vision tower and any language model, as a prefix or with gated cross-attention.

Importing this package makes their config and classes known to transformers.
"""

from components.vlm.composed.configuration import ComposedConfig
from components.vlm.composed.modeling import ComposedForConditionalGeneration, ComposedModel, count_images
from components.vlm.composed.processor import ComposedProcessor

__all__ = [
    "ComposedConfig",
    "ComposedForConditionalGeneration",
    "ComposedModel",
    "ComposedProcessor",
    "count_images",
]
