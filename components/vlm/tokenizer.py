"""The tokenizer: a language model's own, or a byte-level BPE trained on the corpus; and Idefics3's."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any, Final

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

PAD: Final = "<pad>"
UNKNOWN: Final = "<unk>"
START: Final = "<|im_start|>"
END: Final = "<end_of_utterance>"
IMAGE: Final = "<image>"
AROUND_IMAGE: Final = "<fake_token_around_image>"
GLOBAL_IMAGE: Final = "<global-img>"
ROLES: Final = ("User:", "\nAssistant:")
"""Single tokens: they stand in every turn, and spelled out they would be a third of a short turn's tokens."""
SPECIALS: Final = (PAD, UNKNOWN, START, END, IMAGE, AROUND_IMAGE, GLOBAL_IMAGE)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE on `texts`.

    The padding token differs from the end token: were they one, masking the padding out of the loss
    would mask the end token as well, and the model would never learn to stop.

    Args:
        texts: The corpus; its order does not matter. Answers with the space that stands before them.
        vocab_size: Entries at most, specials included; a small corpus gives fewer.
    """
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    # Single digits: a number's length is then in plain sight, and unseen numbers are made of seen tokens.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(ROLES),
        special_tokens=list(SPECIALS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    # The sorted set makes the merges independent of the order and number of worker processes.
    parallel = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        tokenizer.train_from_iterator(sorted(texts), trainer)
    finally:
        if parallel is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = parallel
    tokenizer.add_tokens([AddedToken(role, normalized=False) for role in ROLES])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNKNOWN,
        bos_token=START,
        eos_token=END,
        additional_special_tokens=[IMAGE, AROUND_IMAGE, GLOBAL_IMAGE],
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def adopt_tokenizer(own: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """A language model's tokenizer, as our chats want it: every token keeps its id, what is missing is added.

    Its end token is renamed to ours, and its start token where it has none of our name: the model has learned
    when to write the one and what to expect behind the other. A new end token's row would be a mean of
    others', and the logit of a mean never exceeds the largest: with frozen embeddings (LoRA) a greedy answer
    would not end. The padding token is a new one where it was the end token: masking the one out of the loss
    would mask out the other.
    """
    state: dict[str, Any] = json.loads(own.backend_tokenizer.to_str())
    held = {entry["content"] for entry in state["added_tokens"]} | set(own.get_vocab())
    renamed = {str(own.eos_token): END} if own.eos_token and END not in held else {}
    if START not in held and own.bos_token and own.bos_token != own.eos_token:
        renamed[str(own.bos_token)] = START
    _rename(state, renamed)
    # The template writes the start token itself; padding and truncation are each call's.
    state |= {"post_processor": None, "padding": None, "truncation": None}
    tokenizer = Tokenizer.from_str(json.dumps(state))
    padded = own.pad_token not in (None, own.eos_token)
    pad = str(own.pad_token) if padded else PAD
    unknown = own.unk_token if own.unk_token not in renamed else None
    new = [pad, START, END, IMAGE, AROUND_IMAGE, GLOBAL_IMAGE]
    tokenizer.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in new])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        unk_token=unknown,
        bos_token=START,
        eos_token=END,
        additional_special_tokens=[IMAGE, AROUND_IMAGE, GLOBAL_IMAGE],
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def _rename(state: dict[str, Any], names: dict[str, str]) -> None:
    """Give entries of a tokenizer's vocabulary and of its added tokens other names."""
    for entry in state["added_tokens"]:
        entry["content"] = names.get(entry["content"], entry["content"])
    vocabulary = state["model"]["vocab"]
    if isinstance(vocabulary, dict):
        state["model"]["vocab"] = {names.get(name, name): index for name, index in vocabulary.items()}
    else:  # a unigram model's pieces with their scores
        state["model"]["vocab"] = [[names.get(name, name), score] for name, score in vocabulary]


def add_tile_tags(tokenizer: PreTrainedTokenizerFast, tiles: int) -> None:
    """Make `<row_1_col_1>` to `<row_N_col_N>` tokens: they say which tile follows."""
    tags = [f"<row_{row}_col_{column}>" for row in range(1, tiles + 1) for column in range(1, tiles + 1)]
    tokenizer.backend_tokenizer.add_special_tokens(
        [AddedToken(tag, normalized=False, special=True) for tag in tags]
    )


def spelled(tokenizer: PreTrainedTokenizerFast, name: str) -> list[int]:
    """Ids of the pieces that a token's name is written with, as if it were no token."""
    backend = tokenizer.backend_tokenizer
    text = backend.normalizer.normalize_str(name) if backend.normalizer else name
    cut = backend.pre_tokenizer
    pieces = [piece for piece, _ in cut.pre_tokenize_str(text)] if cut else [text]
    return [token.id for piece in pieces for token in backend.model.tokenize(piece)]
