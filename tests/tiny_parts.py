"""Tiny random parts of models, in directories of the real ones' layout."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
    SiglipTextConfig,
    SiglipVisionConfig,
    SiglipVisionModel,
)

TEXTS = [f"What is the {noun} of {number}? Red." for noun in ("colour", "size") for number in range(30)]
OWN_START, OWN_END = "<|im_start|>", "<|im_end|>"


def own_tokenizer() -> PreTrainedTokenizerFast:
    """A language model's own, with SmolLM2's habits: the padding token is the end token."""
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=["<|endoftext|>", OWN_START, OWN_END, "<filename>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<|endoftext|>",
        bos_token=OWN_START,
        eos_token=OWN_END,
        pad_token=OWN_END,
    )


def llama(directory: Path, *, tied: bool = True, layers: int = 2) -> Path:
    """A language model with its tokenizer."""
    tokenizer = own_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=512,
        tie_word_embeddings=tied,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    _seeded(LlamaForCausalLM, config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def llama_gguf(source: Path, directory: Path) -> Path:
    """The tied language model of `source` as a GGUF file, as llama.cpp's converter writes it."""
    model, tokenizer = LlamaForCausalLM.from_pretrained(source), own_tokenizer()
    config, directory = model.config, directory
    directory.mkdir()
    writer = gguf.GGUFWriter(directory / "tiny.gguf", "llama")
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    writer.add_token_list(names)
    specials = {token.content for token in tokenizer.added_tokens_decoder.values()}
    writer.add_token_types([3 if name in specials else 1 for name in names])
    merges = tokenizer.backend_tokenizer.model.__getstate__()
    writer.add_token_merges(_merges(merges))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for ours, theirs in _gguf_names(config.num_hidden_layers):
        weight = model.state_dict()[ours].numpy()
        kind = theirs.split(".")[-2]
        if kind in heads:  # llama.cpp interleaves the halves that rotary positions turn
            rows = weight.reshape(heads[kind], 2, -1, weight.shape[1])
            weight = np.ascontiguousarray(rows.swapaxes(1, 2).reshape(weight.shape))
        writer.add_tensor(theirs, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return directory


def _merges(state: bytes) -> list[str]:
    import json

    return [" ".join(pair) if isinstance(pair, list) else pair for pair in json.loads(state)["merges"]]


def _gguf_names(layers: int) -> list[tuple[str, str]]:
    names = [("model.embed_tokens.weight", "token_embd.weight"), ("model.norm.weight", "output_norm.weight")]
    for layer in range(layers):
        ours, theirs = f"model.layers.{layer}.", f"blk.{layer}."
        names += [
            (f"{ours}self_attn.{mine}_proj.weight", f"{theirs}attn_{other}.weight")
            for mine, other in (("q", "q"), ("k", "k"), ("v", "v"), ("o", "output"))
        ]
        names += [
            (f"{ours}mlp.{each}_proj.weight", f"{theirs}ffn_{each}.weight") for each in ("gate", "up", "down")
        ]
        names += [
            (f"{ours}input_layernorm.weight", f"{theirs}attn_norm.weight"),
            (f"{ours}post_attention_layernorm.weight", f"{theirs}ffn_norm.weight"),
        ]
    return names


SIGLIP = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}


def siglip(directory: Path) -> Path:
    """A SigLIP tower alone, with its image processor."""
    _seeded(SiglipVisionModel, SiglipVisionConfig(**SIGLIP)).save_pretrained(directory)
    SiglipImageProcessorPil(image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.4]).save_pretrained(directory)
    return directory


def siglip_pair(directory: Path) -> Path:
    """A whole SigLIP: a tower for pictures and one for texts."""
    text = SiglipTextConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2)
    config = SiglipConfig(vision_config=SiglipVisionConfig(**SIGLIP), text_config=text)
    _seeded(SiglipModel, config).save_pretrained(directory)
    SiglipImageProcessorPil().save_pretrained(directory)
    return directory


def clip(directory: Path) -> Path:
    """A CLIP tower: one class token before the patches."""
    _seeded(CLIPVisionModel, CLIPVisionConfig(**SIGLIP)).save_pretrained(directory)
    SiglipImageProcessorPil().save_pretrained(directory)
    return directory


def _seeded(kind: type[PreTrainedModel], config: PretrainedConfig) -> PreTrainedModel:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = kind(config)
    with torch.no_grad():  # norms and biases that start as ones and zeros would hide mistaken places
        noise = torch.Generator().manual_seed(1)
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=noise))
    return model
