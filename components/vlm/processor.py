"""The processor: chat template, image preprocessing, and the messages it is fed.

A chat about one image reads, as tokens:

    <|im_start|>User:<fake_token_around_image><global-img><image>…<fake_token_around_image>QUESTION
    <end_of_utterance>\\nAssistant: ANSWER<end_of_utterance>
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, TypeAlias

from PIL.Image import Resampling
from transformers import AutoProcessor, Idefics3Processor, PreTrainedTokenizerFast
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

from components.config import ModelConfig
from components.errors import ConfigError
from components.vlm.composed import ComposedProcessor
from components.vlm.language import read_tokenizer
from components.vlm.quiet import quiet
from components.vlm.tokenizer import add_tile_tags
from components.vlm.towers import Normalization, normalization

Processor: TypeAlias = Any
"""A Hugging Face processor with `tokenizer`, `image_processor` and a chat template; untyped there."""
OURS: Final = ("Idefics3Processor", "SmolVLMProcessor", "ComposedProcessor")
"""Processors whose pictures are cut as Idefics3's."""

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
CHATML: Final = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% elif part['type'] == 'image' %}{{ '<image>' }}{% endif %}"
    "{% endfor %}{% endif %}<end_of_utterance>\n"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""ChatML with our names for its tokens, and without a system's words that nobody said."""
TEMPLATES: Final = {"smolvlm": CHAT_TEMPLATE, "chatml": CHATML}


def build_processor(tokenizer: PreTrainedTokenizerFast, config: ModelConfig) -> Processor:
    """Tokenizer, image processor (PIL) and chat template.

    Args:
        config: Its sources are directories (what `local_sources` gives).
    """
    wanted = normalization(Path(config.vision)) if config.vision else Normalization()
    images = Idefics3ImageProcessorPil(
        size={"longest_edge": config.longest_edge or config.image_size},
        max_image_size={"longest_edge": config.image_size},
        do_image_splitting=bool(config.longest_edge),
        resample=Resampling(wanted.resample),
        image_mean=list(wanted.mean),
        image_std=list(wanted.std),
    )
    if config.longest_edge:
        add_tile_tags(tokenizer, config.longest_edge // config.image_size)
    tokenizer.model_max_length = config.max_positions
    return _assemble(images, tokenizer, config.image_tokens, TEMPLATES[config.chat], config.architecture)


def source_processor(config: ModelConfig) -> Processor:
    """The processor of a model whose tokenizer comes with a source: the checkpoint's own, or one with the
    language model's tokenizer.

    Args:
        config: Its sources are directories (what `local_sources` gives).

    Raises:
        ConfigError: the source has no fast tokenizer.
    """
    assert not config.trains_tokenizer, "nothing brings a tokenizer: train one"
    if config.checkpoint:
        return load_processor(Path(config.checkpoint))
    return build_processor(read_tokenizer(Path(config.language)), config)


def load_processor(directory: Path) -> Processor:
    """Load the processor of a checkpoint, part by part.

    `from_pretrained` would take torchvision's resampling on a machine that has it, leave its own arguments in
    the tokenizer's config, and want a video processor for a SmolVLM.

    Raises:
        ConfigError: the directory lacks one of the processor's files.
    """
    settings_file = directory / "processor_config.json"
    if not settings_file.is_file():
        raise ConfigError(
            "a processor's settings are not there",
            where=str(settings_file),
            fix="complete the checkpoint: processor_config.json, tokenizer.json, chat template",
        )
    settings = json.loads(settings_file.read_text())
    if settings.get("processor_class") not in OURS:
        return _load_any(directory)
    images = Idefics3ImageProcessorPil.from_pretrained(directory, local_files_only=True)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(directory, local_files_only=True)
    for key in ("is_local", "local_files_only"):
        tokenizer.init_kwargs.pop(key, None)
    template, architecture = _template(directory), settings.get("architecture", "idefics3")
    return _assemble(images, tokenizer, settings["image_seq_len"], template, architecture)


def _assemble(
    images: Idefics3ImageProcessorPil,
    tokenizer: PreTrainedTokenizerFast,
    image_tokens: int,
    template: str,
    architecture: str,
) -> Processor:
    if architecture == "idefics3":
        return Idefics3Processor(images, tokenizer, image_seq_len=image_tokens, chat_template=template)
    return ComposedProcessor(images, tokenizer, image_tokens, template, architecture)


def _load_any(directory: Path) -> Processor:
    """A processor of another family, as transformers loads it."""
    with quiet():
        return AutoProcessor.from_pretrained(directory, local_files_only=True, backend="pil")


def _template(directory: Path) -> str:
    """The chat template, from where this or an earlier transformers put it."""
    path = directory / "chat_template.jinja"
    if path.is_file():
        return path.read_text()
    for name in ("chat_template.json", "tokenizer_config.json"):
        path = directory / name
        written = json.loads(path.read_text()).get("chat_template") if path.is_file() else None
        if written:
            return str(written)
    raise ConfigError(
        "there is no chat template",
        where=str(directory),
        fix="add chat_template.jinja: a model without one was never taught to chat",
    )


def messages(question: str, answer: str | None = None, *, image: bool = True) -> list[dict[str, Any]]:
    """A chat of one turn, image first, as `apply_chat_template` and the OpenAI API shape it."""
    asked: list[dict[str, str]] = [{"type": "image"}] if image else []
    chat: list[dict[str, Any]] = [{"role": "user", "content": [*asked, {"type": "text", "text": question}]}]
    if answer is not None:
        chat.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    return chat
