"""What pretraining reads: the tokenizer, the tokenized splits, and the pack plan.

Each depends on the dataset and on a few settings only, so runs that share those (proxy runs, for instance)
share them on disk as well, keyed by content and code:

    .opsin/cache/<dataset>/<key>/{processor,train,validation,held_out}
    .opsin/cache/<dataset>/<key>/plans/<key>.parquet
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from components.artifacts import Dataset
from components.config import PretrainConfig
from components.distillation import NO_ANSWERS, Answers
from components.fingerprint import code_identity
from components.loader import (
    Encoded,
    Packing,
    Part,
    Plan,
    Sample,
    encode,
    iter_samples,
    load_encoded,
    load_plan,
    make_plan,
    read_samples,
    save_encoded,
    save_plan,
)
from components.loader.pixels import StreamedImages
from components.loader.shards import ShardReader
from components.vlm import (
    build_processor,
    load_processor,
    local_sources,
    save_processor,
    source_processor,
    train_tokenizer,
)
from components.vlm.families import Family, family_of

TOKENIZING = {
    "architecture", "checkpoint", "vision", "language", "chat", "digests", "vocab_size", "image_size",
    "longest_edge", "patch_size", "scale_factor", "latents", "max_positions",
}  # fmt: skip
"""Fields of the model that the processor depends on."""
HELD_OUT_SAMPLES = 400
"""Of each held-out group, at most."""


@dataclass(frozen=True)
class Corpus:
    """A processor and three tokenized splits."""

    directory: Path
    family: Family
    train: Encoded
    validation: Encoded
    held_out: Encoded
    """Of the test split, by group: watched, never trained on or selected by."""


def packing_of(config: PretrainConfig) -> Packing:
    """How the config packs."""
    return Packing(
        pack_tokens=config.pack_tokens,
        pack_images=config.pack_images,
        packs_per_step=config.packs_per_step,
        strategy=config.packing,
        too_long=config.too_long,
        text_only_share=config.text_only_share,
        max_shift=config.max_shift,
        max_epochs=config.max_epochs,
        by_samples=config.mixture_by == "samples",
        one_turn=config.isolation == "varlen",
        seed=config.seed,
    )


def prepare(config: PretrainConfig, dataset: Dataset, answers: Answers = NO_ANSWERS) -> Corpus:
    """Train the tokenizer and tokenize, or read what an earlier run with the same identity left.

    Args:
        answers: A teacher's, in place of those of the training split.
    """
    directory = config.execution.home / "cache" / dataset.digest[:16] / _key(config, answers)
    directory.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(directory.with_suffix(".lock")):
        if not directory.is_dir():
            _build(config, dataset, answers, directory)
    family = family_of(load_processor(directory / "processor"))
    train, validation, held_out = (
        _with_pixels(load_encoded(directory / split), config, dataset, family)
        for split in ("train", "validation", "held_out")
    )
    return Corpus(directory, family, train, validation, held_out)


def plan_for(config: PretrainConfig, corpus: Corpus, weights: Mapping[str, float]) -> tuple[Plan, Path]:
    """The run's pack plan, made or read; and the file that holds it."""
    parts = [
        Part(phase.mixture or weights, steps=phase.steps, tokens=phase.tokens) for phase in config.phases
    ]
    how = packing_of(config)
    settings = [asdict(how), [asdict(part) for part in parts], code_identity("components.loader")]
    path = corpus.directory / "plans" / f"{key_of(settings)}.parquet"
    path.parent.mkdir(exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            save_plan(make_plan(corpus.train, parts, how), path, corpus.train.keys)
    return load_plan(path), path


def _with_pixels(encoded: Encoded, config: PretrainConfig, dataset: Dataset, family: Family) -> Encoded:
    if config.pixels == "cached":
        return encoded
    streamed = StreamedImages(ShardReader(dataset), family, encoded.shards, encoded.place_I3, encoded.grid_I2)
    return replace(encoded, images=streamed)


def _key(config: PretrainConfig, answers: Answers) -> str:
    limit = config.pack_tokens if config.too_long == "downscale" else 0
    code = code_identity("components.loader") | code_identity("components.vlm")
    model = config.model.model_dump(mode="json", include=TOKENIZING)
    return key_of([model, limit, config.pixels, code, answers.digest])


def key_of(settings: Any) -> str:
    """A file name for what settings give."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def _build(config: PretrainConfig, dataset: Dataset, answers: Answers, directory: Path) -> None:
    partial = directory.with_name(f".{directory.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_processor(_processor(config, dataset), partial / "processor")
    family = family_of(load_processor(partial / "processor"))
    limit = config.pack_tokens if config.too_long == "downscale" else 0
    keep = config.pixels == "cached"
    for split, samples in _splits(dataset, keep=keep):
        if split == "train" and answers.texts:
            samples = _taught(samples, answers, family)
        encoded = encode(samples, family, max_tokens=limit, by_group=split == "held_out", keep_pixels=keep)
        save_encoded(encoded, partial / split)
    os.replace(partial, directory)


def _taught(samples: Iterable[Sample], answers: Answers, family: Family) -> Iterable[Sample]:
    """With the teacher's answers: a list of a list, a stream of a stream."""
    taught = (answers.put(sample, family.specials) for sample in samples)
    return list(taught) if isinstance(samples, list) else taught


def _splits(dataset: Dataset, *, keep: bool) -> Iterator[tuple[str, Iterable[Sample]]]:
    """Train and validation whole, and the first samples of each held-out group (keys are in random order);
    none where the dataset holds no test split, which only `watch` needs."""
    for split in ("train", "validation"):
        yield split, read_samples(dataset, split) if keep else iter_samples(dataset, split)
    chosen, counts = list[Sample](), dict[tuple[str, str], int]()
    for sample in iter_samples(dataset, "test", may_lack=True):
        group = (sample.category, sample.group)
        counts[group] = counts.get(group, 0) + 1
        if counts[group] <= HELD_OUT_SAMPLES:
            chosen.append(sample)
    yield "held_out", chosen


def _processor(config: PretrainConfig, dataset: Dataset) -> Any:
    local = local_sources(config.model, config.execution.downloads)
    if not local.trains_tokenizer:
        return source_processor(local)
    turns = [turn for sample in iter_samples(dataset, "train") for turn in sample.turns]
    # A text counts as often as it occurs: the merges follow the corpus. Answers follow a space in the chat.
    texts = [turn.question for turn in turns] + [f" {turn.answer}" for turn in turns]
    tokenizer = train_tokenizer(texts, config.model.vocab_size)
    return build_processor(tokenizer, local)
