"""Put a model together: parts from scratch or out of directories, in one of the architectures."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch
from safetensors import safe_open
from torch import nn
from transformers import (
    GenerationConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.models.idefics3.configuration_idefics3 import Idefics3VisionConfig

from components.config import ModelConfig
from components.errors import ConfigError
from components.vlm.composed import ComposedConfig, ComposedForConditionalGeneration, register
from components.vlm.language import Language, Weights, read_language, vocabulary_rows
from components.vlm.quiet import quiet
from components.vlm.tokenizer import IMAGE
from components.vlm.towers import Tower, assert_fits, read_siglip, read_tower

CONNECTOR: Final = "model.connector."


def build_parts(config: ModelConfig, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """A model in fp32, its sourced parts loaded; torch's global generator decides the other weights.

    Args:
        config: Its sources are directories (what `local_sources` gives).

    Raises:
        ConfigError: a part does not fit the architecture.
    """
    register()
    tower, language = _tower(config), _language(config, tokenizer)
    vision = tower.config if tower else _scratch_vision(config)
    text = language.config if language else _scratch_text(config, tokenizer)
    shared: dict[str, Any] = {
        "image_token_id": tokenizer.vocab[IMAGE],
        "tie_word_embeddings": text.tie_word_embeddings,
        **ends(tokenizer),
    }
    with quiet():
        model = (
            _idefics3(config, vision, text, shared)
            if config.architecture == "idefics3"
            else _composed(config, vision, text, shared, head_bias=bool(language and "bias" in language.head))
        )
    if tower:
        _load(model.model.vision_model, tower.weights, "pretrain.model.vision")
    if language:
        _load(model.model.text_model, language.body, "pretrain.model.language")
        _load(model.lm_head, language.head, "pretrain.model.language")
        model.tie_weights()
    if config.connector:
        weights = _read_connector(Path(config.connector))
        _load(model.model.connector, weights, f"pretrain.model.connector: {config.connector}")
    if isinstance(model, ComposedForConditionalGeneration):
        _assert_features(model, config)
    model.generation_config = GenerationConfig(do_sample=False, **ends(tokenizer))
    return model


def ends(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """Ids of the tokens that pad, begin and end."""
    return {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }


def _tower(config: ModelConfig) -> Tower | None:
    if not config.vision:
        return None
    read = read_siglip if config.architecture == "idefics3" else read_tower
    return read(Path(config.vision), config.image_size)


def _language(config: ModelConfig, tokenizer: PreTrainedTokenizerFast) -> Language | None:
    if not config.language:
        return None
    language = read_language(Path(config.language), tokenizer)
    if config.architecture == "idefics3" and language.config.model_type != "llama":
        raise ConfigError(
            f"Idefics3 reads with Llama's architecture, and this is {language.config.model_type}",
            where="pretrain.model.language",
            fix='set architecture = "prefix", or take a Llama (SmolLM2, TinyLlama, Llama 3)',
        )
    return language


def _scratch_vision(config: ModelConfig) -> Idefics3VisionConfig:
    return Idefics3VisionConfig(
        hidden_size=config.vision_width,
        intermediate_size=4 * config.vision_width,
        num_hidden_layers=config.vision_layers,
        num_attention_heads=config.vision_heads,
        image_size=config.image_size,
        patch_size=config.patch_size,
        dtype="float32",
    )


def _scratch_text(config: ModelConfig, tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocabulary_rows(len(tokenizer)),
        hidden_size=config.text_width,
        intermediate_size=config.text_mlp,
        num_hidden_layers=config.text_layers,
        num_attention_heads=config.text_heads,
        num_key_value_heads=config.text_kv_heads,
        head_dim=config.text_width // config.text_heads,
        max_position_embeddings=config.max_positions,
        rms_norm_eps=1e-5,
        dtype="float32",
        tie_word_embeddings=False,
        **ends(tokenizer),
    )


def _idefics3(
    config: ModelConfig, vision: PreTrainedConfig, text: PreTrainedConfig, shared: dict[str, Any]
) -> Idefics3ForConditionalGeneration:
    whole = Idefics3Config(
        vision_config=vision,
        text_config=text,
        scale_factor=config.scale_factor,
        architectures=["Idefics3ForConditionalGeneration"],
        **shared,
    )
    whole._attn_implementation = "sdpa"
    return Idefics3ForConditionalGeneration(whole)


def _composed(
    config: ModelConfig,
    vision: PreTrainedConfig,
    text: PreTrainedConfig,
    shared: dict[str, Any],
    *,
    head_bias: bool,
) -> ComposedForConditionalGeneration:
    whole = ComposedConfig(
        vision_config=vision,
        text_config=text,
        architecture="gated_cross_attention" if config.gated else "prefix",
        grid=config.image_size // config.patch_size,
        scale_factor=config.scale_factor,
        latents=config.latents,
        resampler_layers=config.resampler_layers,
        cross_every=config.cross_every,
        cross_heads=config.cross_heads,
        head_bias=head_bias,
        architectures=["ComposedForConditionalGeneration"],
        dtype="float32",
        **shared,
    )
    model = ComposedForConditionalGeneration(whole)
    if config.gated and not model.model.connector.blocks:
        raise ConfigError(
            f"the language model has {text.num_hidden_layers} layers: before none stands a gated block",
            where="pretrain.model.cross_every",
            fix=f"set cross_every to {text.num_hidden_layers} at most",
        )
    return model


def _load(module: nn.Module, weights: Weights, where: str) -> None:
    """
    Raises:
        ConfigError: a tensor is missing, has no place, or has another shape.
    """
    assert_fits(module.state_dict(), weights, where)
    module.load_state_dict({name: each.to(torch.float32) for name, each in weights.items()}, assign=True)


def _read_connector(directory: Path) -> Weights:
    """The connector's tensors of a checkpoint."""
    weights = {}
    for file in sorted(directory.glob("*.safetensors")):
        with safe_open(file, framework="pt") as held:
            for name in held.keys():  # noqa: SIM118  # not a mapping
                if name.startswith(CONNECTOR):
                    weights[name.removeprefix(CONNECTOR)] = held.get_tensor(name)
    if not weights:
        raise ConfigError(
            "no safetensors file there holds a connector",
            where=f"pretrain.model.connector: {directory}",
            fix="name a checkpoint of a vision-language model, of this architecture",
        )
    return weights


def _assert_features(model: ComposedForConditionalGeneration, config: ModelConfig) -> None:
    """
    Raises:
        ConfigError: the tower does not give a square of patches as large as its config promises.
    """
    side, grid = config.image_size, model.config.grid
    with torch.inference_mode():
        features = model.model.tower(torch.zeros(1, 3, side, side))
    if features.shape[1] != grid**2:
        raise ConfigError(
            f"the tower makes {features.shape[1]} patches of a picture of {side} pixels, not {grid} × {grid}",
            where="pretrain.model.vision",
            fix="take a tower with one feature map of square patches",
        )
