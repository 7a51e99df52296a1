"""The processor of a composed model: Idefics3's, with the model's architecture on it."""

from __future__ import annotations

from typing import Any

from transformers import Idefics3Processor


class ComposedProcessor(Idefics3Processor):
    """Chats and pictures become the same tokens and tiles as Idefics3's.

    Args:
        architecture: `prefix` or `gated_cross_attention`; of the latter an image is one token.
    """

    def __init__(
        self,
        image_processor: Any,
        tokenizer: Any = None,
        image_seq_len: int = 1,
        chat_template: str | None = None,
        architecture: str = "prefix",
        **kwargs: Any,
    ) -> None:
        self.architecture = architecture
        super().__init__(image_processor, tokenizer, image_seq_len, chat_template, **kwargs)
