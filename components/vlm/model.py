"""The model: an Idefics3 built from scratch, saved whole or not at all, loaded with its contract asserted."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Final

import torch
from transformers import (
    GenerationConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    LlamaConfig,
    PreTrainedTokenizerFast,
)
from transformers.models.idefics3.configuration_idefics3 import Idefics3VisionConfig
from transformers.utils import logging

from components.artifacts import write_atomic
from components.config import ModelConfig
from components.vlm.contract import CONTRACT_FILE, assert_contract, contract, contract_hash
from components.vlm.tokenizer import IMAGE

VOCABULARY_MULTIPLE: Final = 64


def build_model(config: ModelConfig, tokenizer: PreTrainedTokenizerFast) -> Idefics3ForConditionalGeneration:
    """A randomly initialized model in fp32; torch's global generator decides the weights."""
    vocabulary = -(-len(tokenizer) // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE
    ends = {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    vision = Idefics3VisionConfig(
        hidden_size=config.vision_width,
        intermediate_size=4 * config.vision_width,
        num_hidden_layers=config.vision_layers,
        num_attention_heads=config.vision_heads,
        image_size=config.image_size,
        patch_size=config.patch_size,
        dtype="float32",
    )
    text = LlamaConfig(
        vocab_size=vocabulary,
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
        **ends,
    )
    whole = Idefics3Config(
        vision_config=vision,
        text_config=text,
        scale_factor=config.scale_factor,
        image_token_id=tokenizer.vocab[IMAGE],
        tie_word_embeddings=False,
        architectures=["Idefics3ForConditionalGeneration"],
        **ends,
    )
    whole._attn_implementation = "sdpa"
    with quiet():
        model = Idefics3ForConditionalGeneration(whole)
    model.generation_config = GenerationConfig(do_sample=False, **ends)
    return model


def save(model: Idefics3ForConditionalGeneration, processor: Idefics3Processor, directory: Path) -> str:
    """Write a Hugging Face model directory with `contract.json`, whole or not at all.

    What lay at `directory` is replaced.

    Returns:
        The contract's hash.
    """
    partial = directory.with_name(f".{directory.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    with quiet():
        model.save_pretrained(partial)
    save_processor(processor, partial)
    if directory.exists():
        shutil.rmtree(directory)
    os.replace(partial, directory)
    return contract_hash(contract(processor))


def save_processor(processor: Idefics3Processor, directory: Path) -> None:
    """Write tokenizer, image processor, chat template and `contract.json` into an existing directory."""
    # A call with padding leaves its state in the tokenizer; two saves of one tokenizer must not differ.
    processor.tokenizer.backend_tokenizer.no_padding()
    processor.tokenizer.backend_tokenizer.no_truncation()
    processor.save_pretrained(directory)
    write_atomic(directory / CONTRACT_FILE, json.dumps(contract(processor), indent=1, sort_keys=True))


def load_model(directory: Path, *, expected_contract: str | None = None) -> Idefics3ForConditionalGeneration:
    """Load a checkpoint in fp32 and evaluation mode; compressed-tensors checkpoints too.

    Args:
        directory: A Hugging Face model directory.
        expected_contract: Hash that the processor files in `directory` must have.

    Raises:
        ContractMismatch: they have another.
    """
    if expected_contract is not None:
        assert_contract(directory, expected_contract)
    # compressed-tensors draws progress bars that no setting switches off
    with quiet(), redirect_stderr(io.StringIO()):
        model: Idefics3ForConditionalGeneration = Idefics3ForConditionalGeneration.from_pretrained(
            directory, dtype=torch.float32, attn_implementation="sdpa", local_files_only=True
        )
    model.eval()
    return model


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' own progress bars, and without its warning about Idefics3's default config."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
