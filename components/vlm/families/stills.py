"""Processors of families that know videos, for pictures only.

transformers 5.19 builds the processors of SmolVLM, LLaVA-OneVision and Qwen-VL around a video processor that
it has only where torchvision is installed (without it: `'VIDEO_PROCESSOR_MAPPING' has no attribute
'_extra_content'`). Nothing here reads videos.

    processor = stills(Qwen3VLProcessor).from_pretrained(directory)
"""

from __future__ import annotations

from functools import cache
from typing import Any

from transformers import ProcessorMixin


@cache
def stills(processor: type[ProcessorMixin]) -> Any:
    """The class without its video processor (None stands in its place), under its own name: what is saved
    names the original, and both read it."""

    class Stills(processor):  # type: ignore[misc, valid-type]
        @classmethod
        def get_attributes(cls) -> list[str]:
            return ["image_processor", "tokenizer"]

        @classmethod
        def from_args_and_dict(cls, args: list[Any], processor_dict: dict[str, Any], **settings: Any) -> Any:
            return super().from_args_and_dict([*args, None], processor_dict, **settings)

        def apply_chat_template(self, *arguments: Any, **settings: Any) -> Any:
            # SmolVLM's asks its video processor for defaults first.
            return ProcessorMixin.apply_chat_template(self, *arguments, **settings)

    Stills.__name__ = Stills.__qualname__ = processor.__name__
    Stills.__module__ = processor.__module__
    return Stills
