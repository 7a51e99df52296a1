"""The language model of a directory: Hugging Face's layout or a GGUF file, its vocabulary extended by ours.

Letters: V entries of the vocabulary, D width.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from components.errors import ConfigError
from components.vlm.quiet import quiet
from components.vlm.tokenizer import adopt_tokenizer, spelled

VOCABULARY_MULTIPLE: Final = 64
WHERE: Final = "pretrain.model.language"
STALE: Final = ("_name_or_path", "architectures", "quantization_config", "transformers_version", "dtype")
"""Of a config: what was true of the file that it was read from."""

POSITIONS: Final = ("max_position_embeddings", "n_positions", "max_seq_len")
FEW: Final = 1024
"""Positions of a model that does not say how many it was trained with."""

Weights: TypeAlias = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Language:
    """A language model taken apart, with rows for every token of a tokenizer."""

    config: PreTrainedConfig
    body: Weights
    """Of the model below the head, by its own names."""
    head: Weights
    """`weight`, and `bias` where the head has one; the weight is the embeddings' where those are tied."""


def max_positions(directory: Path) -> int:
    """Tokens of a sequence at most."""
    config = _own_config(directory)
    known: list[int | None] = [getattr(config, name, None) for name in POSITIONS]
    return next((number for number in known if number), FEW)


def read_tokenizer(directory: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a language model, with our special tokens.

    Raises:
        ConfigError: the directory holds none that is a fast one.
    """
    return adopt_tokenizer(_own_tokenizer(directory))


def read_language(directory: Path, tokenizer: PreTrainedTokenizerFast) -> Language:
    """The language model in fp32, extended for `tokenizer` (what `read_tokenizer` gave, or more of it).

    The row of a new token is the mean of the rows of the pieces that its name is spelled with: new tokens
    differ from each other, and none is likelier than the likeliest of its pieces.

    Raises:
        ConfigError: the directory holds no causal language model with a plain linear head.
    """
    with _explained(directory), quiet(), redirect_stderr(io.StringIO()):  # GGUF's bars heed no setting
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            directory, **_gguf(directory), dtype=torch.float32, local_files_only=True
        )
    _assert_plain_head(model, directory)
    own = _own_tokenizer(directory)
    body, head = cast(PreTrainedModel, model.base_model), model.get_output_embeddings()
    assert isinstance(head, nn.Linear), "the check above has seen one"
    weights, embeddings = dict(body.state_dict()), _embeddings(body)
    rows = _new_rows(own, tokenizer)
    weights[embeddings] = _extended(weights[embeddings], rows, len(own))
    ends = dict(head.state_dict())
    tied = head.weight is body.get_input_embeddings().weight
    ends["weight"] = weights[embeddings] if tied else _extended(ends["weight"], rows, len(own))
    if "bias" in ends:
        ends["bias"] = _extended(ends["bias"][:, None], rows, len(own))[:, 0]
    return Language(_config(model.config, tokenizer, len(weights[embeddings])), weights, ends)


def vocabulary_rows(tokens: int) -> int:
    """Rows for so many tokens: a whole multiple, for the matrix multiplications' sake."""
    return -(-tokens // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE


def _embeddings(body: PreTrainedModel) -> str:
    """Name of the embeddings' weight."""
    wanted = body.get_input_embeddings().weight
    return next(name for name, parameter in body.named_parameters() if parameter is wanted)


def _new_rows(own: PreTrainedTokenizerFast, tokenizer: PreTrainedTokenizerFast) -> list[list[int]]:
    """For each token behind the model's own, the tokens that its row is the mean of."""
    names = tokenizer.convert_ids_to_tokens(list(range(len(own), len(tokenizer))))
    return [spelled(own, name) or list(range(len(own))) for name in names]


def _extended(weight_VD: torch.Tensor, rows: list[list[int]], known: int) -> torch.Tensor:
    """The matrix with rows for new tokens, and the mean of all in what is padding."""
    size = max(vocabulary_rows(known + len(rows)), vocabulary_rows(len(weight_VD)))
    own_VD = weight_VD[:known]
    extended_VD = own_VD.mean(dim=0).expand(size, -1).clone()
    extended_VD[:known] = own_VD
    for index, pieces in enumerate(rows, start=known):
        extended_VD[index] = own_VD[pieces].mean(dim=0)
    return extended_VD


def _config(own: PreTrainedConfig, tokenizer: PreTrainedTokenizerFast, vocabulary: int) -> PreTrainedConfig:
    fields = {name: value for name, value in own.to_dict().items() if name not in STALE}
    fields |= {
        "vocab_size": vocabulary,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "dtype": "float32",
    }
    config: PreTrainedConfig = type(own)(**fields)
    return config


def _assert_plain_head(model: PreTrainedModel, directory: Path) -> None:
    """
    Raises:
        ConfigError: its logits are not what a linear head makes of the last hidden states (soft caps,
            scaled logits): taken apart and put together again it would be another model.
    """
    head, base = model.get_output_embeddings(), cast(PreTrainedModel, model.base_model)
    ids = torch.arange(8)[None]
    with torch.inference_mode():
        whole, body = model(input_ids=ids).logits, base(input_ids=ids).last_hidden_state
        plain = isinstance(head, nn.Linear) and torch.equal(whole, head(body))
    if not plain:
        raise ConfigError(
            f"a {type(model).__name__} does more to its logits than a linear head",
            where=f"{WHERE}: {directory}",
            fix="take a language model with a plain head (Llama, Qwen, Mistral, SmolLM)",
        )


@lru_cache(maxsize=4)
def _own_tokenizer(directory: Path) -> PreTrainedTokenizerFast:
    """As it lies there; parsing a GGUF file takes seconds."""
    with _explained(directory), quiet():
        own = AutoTokenizer.from_pretrained(directory, **_gguf(directory), local_files_only=True)
    if not isinstance(own, PreTrainedTokenizerFast):
        raise ConfigError(
            f"the tokenizer is a {type(own).__name__}",
            where=f"{WHERE}: {directory}",
            fix="add its tokenizer.json: only fast tokenizers are read",
        )
    return own


@lru_cache(maxsize=4)
def _own_config(directory: Path) -> PreTrainedConfig:
    with _explained(directory), quiet():
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            directory, **_gguf(directory), local_files_only=True
        )
    return config


def _gguf(directory: Path) -> dict[str, Any]:
    """The argument that names a GGUF file, where there is one and no config."""
    files = sorted(directory.glob("*.gguf"))
    if not files or (directory / "config.json").is_file():
        return {}
    if len(files) > 1:
        raise ConfigError(
            f"{len(files)} GGUF files lie there: {', '.join(file.name for file in files)}",
            where=f"{WHERE}: {directory}",
            fix="name a directory with one",
        )
    return {"gguf_file": files[0].name}


@contextmanager
def _explained(directory: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, ImportError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(
            f"no language model can be read: {next(iter(str(error).splitlines()), type(error).__name__)}",
            where=f"{WHERE}: {directory}",
            fix="name a causal language model in the hub's layout or a GGUF file; a whole vision-language "
            "model belongs into `checkpoint`",
        ) from error
