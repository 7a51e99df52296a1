"""Tiny random models and processors of every family that opsin knows, made without a network.

    family, model = tiny_family("qwen3_vl")

Sizes are the smallest at which every part of the family is at work: several layers where the family treats
them differently, windows smaller than a picture, more crops than LLaVA-OneVision keeps at full resolution.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    LlamaConfig,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionProcessor,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Config,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    SiglipVisionConfig,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMProcessor,
)
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
    LlavaOnevisionImageProcessorPil,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from components.vlm.families import Family, family_of
from components.vlm.families.stills import stills
from components.vlm.processor import CHAT_TEMPLATE

FAMILIES: Final = ("idefics3", "smolvlm", "llava_onevision", "qwen2_vl", "qwen2_5_vl", "qwen3_vl")

IDEFICS_SPECIALS: Final = (
    *("<|im_start|>", "<image>", "<fake_token_around_image>", "<global-img>"),
    *(f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)),
)
LLAVA_SPECIALS: Final = ("<|im_start|>", "<image>", "<video>")
QWEN_SPECIALS: Final = (
    "<|im_start|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
LLAVA_TEMPLATE: Final = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + ' ' }}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ '\n' + part['text'] }}{% endfor %}"
    "{{ '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""LLaVA-OneVision's: pictures first."""
QWEN_TEMPLATE: Final = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<|vision_start|><|image_pad|><|vision_end|>' }}"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

_TEXT: Final = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}
_ROPE: Final = {"rope_type": "default", "rope_theta": 10_000.0}
_QWEN_VISION: Final = {
    "depth": 3,
    "num_heads": 2,
    "in_channels": 3,
    "patch_size": 4,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}
_PINPOINTS: Final = [[down * 16, across * 16] for down in range(1, 5) for across in range(1, 5)]


def tiny_family(name: str, *, seed: int = 0) -> tuple[Family, PreTrainedModel]:
    """A family with its processor, and a random model of it in fp32 and evaluation mode.

    Args:
        name: One of `FAMILIES`.
    """
    processor, build = _FAMILIES[name]()
    tokenizer = processor.tokenizer
    ends = {
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build(_TEXT | ends | {"vocab_size": len(tokenizer)}).eval()
        _sharpen(model)
    return family_of(processor), model


@torch.no_grad()
def _sharpen(model: PreTrainedModel) -> None:
    """Weights of the size that trained ones have: at the usual 0.02 and widths of 32 every attention is so
    nearly uniform that a token which sees too much hardly changes."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.normal_(std=parameter[0].numel() ** -0.5)
        else:
            parameter.add_(torch.randn_like(parameter), alpha=0.1)


def tiny_tokenizer(specials: tuple[str, ...], end: str) -> PreTrainedTokenizerFast:
    """Bytes and special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={byte: index for index, byte in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|endoftext|>",
        eos_token=end,
        additional_special_tokens=list(specials),
        clean_up_tokenization_spaces=False,
    )


_Build = Callable[[dict[str, Any]], PreTrainedModel]


def _idefics3() -> tuple[Any, _Build]:
    tokenizer = tiny_tokenizer(IDEFICS_SPECIALS, "<end_of_utterance>")
    images = Idefics3ImageProcessorPil(size={"longest_edge": 96}, max_image_size={"longest_edge": 32})
    processor = Idefics3Processor(images, tokenizer, image_seq_len=4, chat_template=CHAT_TEMPLATE)

    def build(text: dict[str, Any]) -> PreTrainedModel:
        config = _idefics3_config(Idefics3Config, text, processor.image_token_id)
        return Idefics3ForConditionalGeneration(config)

    return processor, build


def _smolvlm() -> tuple[Any, _Build]:
    tokenizer = tiny_tokenizer(IDEFICS_SPECIALS, "<end_of_utterance>")
    images = SmolVLMImageProcessorPil(size={"longest_edge": 96}, max_image_size={"longest_edge": 32})
    processor = stills(SmolVLMProcessor)(
        images, tokenizer, None, image_seq_len=4, chat_template=CHAT_TEMPLATE
    )

    def build(text: dict[str, Any]) -> PreTrainedModel:
        config = _idefics3_config(SmolVLMConfig, text, processor.image_token_id)
        return SmolVLMForConditionalGeneration(config)

    return processor, build


def _idefics3_config(kind: type[Any], text: dict[str, Any], image_id: int) -> Any:
    vision = {
        "hidden_size": 24,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    }
    return kind(
        vision_config=vision,
        text_config=LlamaConfig(**text).to_dict(),
        scale_factor=2,
        image_token_id=image_id,
        pad_token_id=text["pad_token_id"],
        tie_word_embeddings=False,
    )


def _llava_onevision() -> tuple[Any, _Build]:
    tokenizer = tiny_tokenizer(LLAVA_SPECIALS, "<|im_end|>")
    side = {"height": 16, "width": 16}
    processor = stills(LlavaOnevisionProcessor)(
        LlavaOnevisionImageProcessorPil(size=side, image_grid_pinpoints=_PINPOINTS),
        tokenizer,
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        vision_aspect_ratio="anyres_max_4",
        chat_template=LLAVA_TEMPLATE,
    )

    def build(text: dict[str, Any]) -> PreTrainedModel:
        vision = SiglipVisionConfig(
            hidden_size=24,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=16,
            patch_size=4,
            vision_use_head=False,
        )
        config = LlavaOnevisionConfig(
            vision_config=vision.to_dict(),
            text_config=Qwen2Config(**text).to_dict(),
            image_token_index=processor.image_token_id,
            video_token_index=processor.video_token_id,
            image_grid_pinpoints=_PINPOINTS,
            vision_aspect_ratio="anyres_max_4",
        )
        return LlavaOnevisionForConditionalGeneration(config)

    return processor, build


def _qwen2_vl() -> tuple[Any, _Build]:
    def vision() -> dict[str, Any]:
        return {**_QWEN_VISION, "embed_dim": 16, "hidden_size": _TEXT["hidden_size"], "mlp_ratio": 2}

    return _qwen(Qwen2VLProcessor, Qwen2VLConfig, Qwen2VLForConditionalGeneration, vision())


def _qwen2_5_vl() -> tuple[Any, _Build]:
    vision = {
        **_QWEN_VISION,
        "hidden_size": 16,
        "intermediate_size": 24,
        "out_hidden_size": _TEXT["hidden_size"],
        "window_size": 16,
        "fullatt_block_indexes": [1],
    }
    return _qwen(Qwen2_5_VLProcessor, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, vision)


def _qwen3_vl() -> tuple[Any, _Build]:
    vision = {
        **_QWEN_VISION,
        "hidden_size": 16,
        "intermediate_size": 24,
        "out_hidden_size": _TEXT["hidden_size"],
        "num_position_embeddings": 36,
        "deepstack_visual_indexes": [0, 1],
    }
    return _qwen(Qwen3VLProcessor, Qwen3VLConfig, Qwen3VLForConditionalGeneration, vision, head_dim=8)


def _qwen(
    processor_class: type[Any],
    config_class: type[Any],
    model_class: type[Any],
    vision: dict[str, Any],
    **more: Any,
) -> tuple[Any, _Build]:
    tokenizer = tiny_tokenizer(QWEN_SPECIALS, "<|im_end|>")
    images = Qwen2VLImageProcessorPil(patch_size=4, size={"shortest_edge": 16 * 16, "longest_edge": 48 * 48})
    processor = stills(processor_class)(images, tokenizer, chat_template=QWEN_TEMPLATE)

    def build(text: dict[str, Any]) -> PreTrainedModel:
        # Heads of 8 have 4 frequencies: 2 for time, 1 each for rows and columns.
        rope = {**_ROPE, "mrope_section": [2, 1, 1]}
        config = config_class(
            vision_config=vision,
            text_config={**text, **more, "rope_parameters": rope},
            image_token_id=processor.image_token_id,
            video_token_id=processor.video_token_id,
            vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
            vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
        )
        model: PreTrainedModel = model_class(config)
        return model

    return processor, build


_FAMILIES: Final[dict[str, Callable[[], tuple[Any, _Build]]]] = {
    "idefics3": _idefics3,
    "smolvlm": _smolvlm,
    "llava_onevision": _llava_onevision,
    "qwen2_vl": _qwen2_vl,
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen3_vl": _qwen3_vl,
}
