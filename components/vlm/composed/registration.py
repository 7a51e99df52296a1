"""Make composed models known to transformers' `Auto…` classes; importing them does not."""

from __future__ import annotations

from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText

from components.vlm.composed.configuration import ComposedConfig
from components.vlm.composed.efficientnet import EfficientNetLite, EfficientNetLiteConfig
from components.vlm.composed.modeling import ComposedForConditionalGeneration


def register() -> None:
    """Any number of times."""
    AutoConfig.register(EfficientNetLiteConfig.model_type, EfficientNetLiteConfig, exist_ok=True)
    AutoModel.register(EfficientNetLiteConfig, EfficientNetLite, exist_ok=True)
    AutoConfig.register(ComposedConfig.model_type, ComposedConfig, exist_ok=True)
    AutoModelForImageTextToText.register(ComposedConfig, ComposedForConditionalGeneration, exist_ok=True)
