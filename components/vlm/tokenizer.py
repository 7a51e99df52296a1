"""The tokenizer: byte-level BPE trained on the corpus; single digits, specials as Idefics3 wants them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

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
