"""The model: built or gone on from, saved whole or not at all, loaded with its contract asserted."""

from __future__ import annotations

import io
import json
import os
import shutil
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any, Final

import torch
from transformers import (
    AutoModelForImageTextToText,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from components.artifacts import write_atomic
from components.config import ModelConfig
from components.vlm.building import build_parts
from components.vlm.composed import ComposedConfig, ComposedForConditionalGeneration, register
from components.vlm.contract import CONTRACT_FILE, assert_contract, contract, contract_hash
from components.vlm.quiet import quiet

IDEFICS3_LIKE: Final = ("idefics3", "smolvlm")
"""Model types that are one architecture: SmolVLM's class wants a video processor, Idefics3's does not."""


def build_model(config: ModelConfig, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """A model in fp32: from its parts, or the checkpoint that `config` goes on from.

    Torch's global generator decides the weights of what is made from scratch.

    Args:
        config: Its sources are directories (what `local_sources` gives).
        tokenizer: The processor's.

    Raises:
        ConfigError: a part does not fit the architecture.
    """
    if config.checkpoint:
        model = load_model(Path(config.checkpoint))
        model.train()
        return model
    return build_parts(config, tokenizer)


def save(model: PreTrainedModel, processor: Idefics3Processor, directory: Path) -> str:
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


def load_model(directory: Path, *, expected_contract: str | None = None) -> PreTrainedModel:
    """Load a checkpoint in fp32 and evaluation mode; compressed-tensors checkpoints too.

    Args:
        directory: A Hugging Face model directory: one of ours, or of any vision-language model that
            transformers knows.
        expected_contract: Hash that the processor files in `directory` must have.

    Raises:
        ContractMismatch: they have another.
    """
    if expected_contract is not None:
        assert_contract(directory, expected_contract)
    kind = json.loads((directory / "config.json").read_text())["model_type"]
    register()
    known: Any = AutoModelForImageTextToText
    options: dict[str, Any] = {"attn_implementation": "sdpa"}
    if kind in IDEFICS3_LIKE:
        known = Idefics3ForConditionalGeneration
        options |= {} if kind == "idefics3" else {"config": _as_idefics3(directory)}
    elif kind == ComposedConfig.model_type:
        known, options = ComposedForConditionalGeneration, {}  # each part has the best that it knows
    # compressed-tensors draws progress bars that no setting switches off
    with quiet(), redirect_stderr(io.StringIO()):
        model: PreTrainedModel = known.from_pretrained(
            directory, dtype=torch.float32, local_files_only=True, **options
        )
    model.eval()
    return model


def _as_idefics3(directory: Path) -> Idefics3Config:
    """A SmolVLM's config in Idefics3's words."""
    fields = json.loads((directory / "config.json").read_text())
    for stale in ("model_type", "architectures", "transformers_version"):
        fields.pop(stale, None)
    fields["vision_config"].pop("model_type", None)
    return Idefics3Config(**fields, architectures=["Idefics3ForConditionalGeneration"])
