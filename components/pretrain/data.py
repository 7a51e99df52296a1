"""What pretraining reads: the tokenizer trained on the corpus, and the tokenized splits.

Both depend on the dataset and on a few settings only, so runs that share those (proxy runs, for
instance) share them on disk as well, keyed by content and code.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from transformers import Idefics3Processor

from components.artifacts import Dataset
from components.config import PretrainConfig
from components.fingerprint import code_identity
from components.loader import Encoded, encode, load_encoded, read_samples, save_encoded
from components.vlm import build_processor, load_processor, save_processor, train_tokenizer


@dataclass(frozen=True)
class Corpus:
    """A processor whose tokenizer was trained on the training split, and two tokenized splits."""

    processor: Idefics3Processor
    train: Encoded
    validation: Encoded


def prepare(config: PretrainConfig, dataset: Dataset) -> Corpus:
    """Train the tokenizer and tokenize, or read what an earlier run with the same identity left."""
    directory = config.execution.home / "cache" / dataset.digest[:16] / _key(config)
    directory.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(directory.with_suffix(".lock")):
        if not directory.is_dir():
            _build(config, dataset, directory)
    return Corpus(
        processor=load_processor(directory / "processor"),
        train=load_encoded(directory / "train"),
        validation=load_encoded(directory / "validation"),
    )


def _key(config: PretrainConfig) -> str:
    model = config.model
    settings = [model.vocab_size, model.image_size, model.image_tokens, model.max_positions]
    code = code_identity("components.loader") | code_identity("components.vlm")
    return hashlib.sha256(json.dumps([settings, code], sort_keys=True).encode()).hexdigest()[:16]


def _build(config: PretrainConfig, dataset: Dataset, directory: Path) -> None:
    partial = directory.with_name(f".{directory.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    train = read_samples(dataset, "train")
    turns = [turn for sample in train for turn in sample.turns]
    # A text counts as often as it occurs: the merges follow the corpus. Answers follow a space in the chat.
    texts = [turn.question for turn in turns] + [f" {turn.answer}" for turn in turns]
    tokenizer = train_tokenizer(texts, config.model.vocab_size)
    processor = build_processor(tokenizer, config.model)
    save_processor(processor, partial / "processor")
    save_encoded(encode(train, processor), partial / "train")
    save_encoded(encode(read_samples(dataset, "validation"), processor), partial / "validation")
    os.replace(partial, directory)
