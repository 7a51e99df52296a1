"""Families of models: everything that the loader and the trainer must know of one, in one place each."""

from components.vlm.families.base import Family, Grid, Inputs, Pixels
from components.vlm.families.composed import ComposedFamily
from components.vlm.families.idefics3 import Idefics3Family
from components.vlm.families.llava_onevision import LlavaOnevisionFamily
from components.vlm.families.qwen_vl import QwenVLFamily

__all__ = [
    "ComposedFamily",
    "Family",
    "Grid",
    "Idefics3Family",
    "Inputs",
    "LlavaOnevisionFamily",
    "Pixels",
    "QwenVLFamily",
    "family_of",
]


def family_of(processor: object) -> Family:
    """The family that a processor belongs to, by its class.

    Raises:
        ConfigError: none that opsin knows.
    """
    from components.errors import ConfigError

    name = type(processor).__name__
    if name in ("Idefics3Processor", "SmolVLMProcessor"):
        return Idefics3Family(processor)
    if name == "ComposedProcessor":
        return ComposedFamily(processor)
    if name == "LlavaOnevisionProcessor":
        return LlavaOnevisionFamily(processor)
    if name in ("Qwen2VLProcessor", "Qwen2_5_VLProcessor", "Qwen3VLProcessor"):
        return QwenVLFamily(processor)
    raise ConfigError(
        f"models with a {name} are not known here",
        where="the checkpoint's processor",
        fix="use a model of the Idefics3, SmolVLM, LLaVA-OneVision, Qwen2-VL, Qwen2.5-VL or Qwen3-VL family",
    )
