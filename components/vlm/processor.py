"""The processor: chat template, image preprocessing without tiling, and the messages it is fed.

A chat about one image reads, as tokens:

    <|im_start|>User:<fake_token_around_image><global-img><image>…<fake_token_around_image>QUESTION
    <end_of_utterance>\\nAssistant: ANSWER<end_of_utterance>
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from PIL.Image import Resampling
from transformers import Idefics3Processor, PreTrainedTokenizerFast
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

from components.config import ModelConfig

CHAT_TEMPLATE: Final = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}:"
    "{% if message['content'] is string %}{{ ' ' + message['content'] }}{% else %}"
    "{% if message['content'][0]['type'] == 'text' %}{{ ' ' }}{% endif %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% elif part['type'] == 'image' %}{{ '<image>' }}{% endif %}"
    "{% endfor %}{% endif %}<end_of_utterance>\n"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
"""SmolVLM's, and content given as a plain string as well (many OpenAI clients send that)."""


def build_processor(tokenizer: PreTrainedTokenizerFast, config: ModelConfig) -> Idefics3Processor:
    """Tokenizer, image processor (PIL, one tile of `config.image_size`, [-1, 1]) and chat template."""
    side = {"longest_edge": config.image_size}
    images = Idefics3ImageProcessorPil(
        size=side,
        max_image_size=side,
        do_image_splitting=False,
        resample=Resampling.LANCZOS,
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )
    tokenizer.model_max_length = config.max_positions
    return Idefics3Processor(
        images, tokenizer, image_seq_len=config.image_tokens, chat_template=CHAT_TEMPLATE
    )


def load_processor(directory: Path) -> Idefics3Processor:
    """Load the processor of a checkpoint, part by part.

    `Idefics3Processor.from_pretrained` would take torchvision's resampling on a machine that has it, and
    leave its own arguments in the tokenizer's config.
    """
    images = Idefics3ImageProcessorPil.from_pretrained(directory, local_files_only=True)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(directory, local_files_only=True)
    for key in ("is_local", "local_files_only"):
        tokenizer.init_kwargs.pop(key, None)
    settings = json.loads((directory / "processor_config.json").read_text())
    template = (directory / "chat_template.jinja").read_text()
    return Idefics3Processor(
        images, tokenizer, image_seq_len=settings["image_seq_len"], chat_template=template
    )


def messages(question: str, answer: str | None = None, *, image: bool = True) -> list[dict[str, Any]]:
    """A chat of one turn, image first, as `apply_chat_template` and the OpenAI API shape it."""
    asked: list[dict[str, str]] = [{"type": "image"}] if image else []
    chat: list[dict[str, Any]] = [{"role": "user", "content": [*asked, {"type": "text", "text": question}]}]
    if answer is not None:
        chat.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    return chat
