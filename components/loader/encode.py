"""Tokenize once: samples → flat arrays of tokens and pixels, cached on disk and shared by runs.

A sample's tokens are a prefix (start token, user header, image tokens) that all its turns share, and
the turns. The texts come from the processor's own chat template, so that prefix + turn is, token by
token, what the processor gives for the chat at evaluation and serving.

Letters in array names: S samples, N tokens, T turns, C channels, H and W pixels.
"""

from __future__ import annotations

import io
import os
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from transformers import Idefics3Processor

from components.errors import SourceError
from components.loader.samples import Sample
from components.progress import track
from components.vlm.processor import messages
from components.vlm.tokenizer import SPECIALS

Ints = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Turns:
    """The turns of all samples in one form (with the image, or text only)."""

    prefix: Ints
    """Tokens that stand before every turn."""
    tokens_N: Ints
    """Tokens of all turns, one after another."""
    start_T: Ints
    """Where a turn's tokens start (one more entry than turns: the end)."""
    answer_T: Ints
    """Tokens of the question and headers: those after them are the answer and its end token."""


@dataclass(frozen=True)
class Encoded:
    """A split, tokenized."""

    categories: tuple[str, ...]
    category_S: Ints
    turn_S: Ints
    """First turn of a sample (one more entry than samples: the end)."""
    image_S: Ints
    """Row in `images_SCHW`; -1 for a sample without image."""
    images_SCHW: npt.NDArray[np.uint8]
    with_image: Turns
    text_only: Turns

    def __len__(self) -> int:
        return len(self.category_S)

    def turns(self, image: bool) -> Turns:
        return self.with_image if image else self.text_only


def encode(samples: Sequence[Sample], processor: Idefics3Processor) -> Encoded:
    """Tokenize every turn and decode every image.

    Raises:
        SourceError: a text holds a special token (it would be read as an image or as an end).
    """
    categories = tuple(sorted({sample.category for sample in samples}))
    pixels = [
        _pixels(sample.image, processor)
        for sample in track(samples, "decode images", total=len(samples), unit="img")
        if sample.image is not None
    ]
    side = processor.image_processor.max_image_size["longest_edge"]
    has_image = np.array([sample.image is not None for sample in samples], dtype=bool)
    return Encoded(
        categories=categories,
        category_S=np.array([categories.index(sample.category) for sample in samples], dtype=np.int32),
        turn_S=np.cumsum([0, *(len(sample.turns) for sample in samples)], dtype=np.int32),
        image_S=np.where(has_image, np.cumsum(has_image) - 1, -1).astype(np.int32),
        images_SCHW=np.stack(pixels) if pixels else np.zeros((0, 3, side, side), dtype=np.uint8),
        with_image=_tokenize(samples, processor, image=True),
        text_only=_tokenize(samples, processor, image=False),
    )


def _pixels(image: bytes, processor: Idefics3Processor) -> npt.NDArray[np.uint8]:
    """One image as the processor resizes it, before normalization: (C, H, W), 0 to 255."""
    with Image.open(io.BytesIO(image)) as opened:
        picture = opened.convert("RGB")
    side = processor.image_processor.max_image_size["longest_edge"]
    if picture.size == (side, side):
        return np.asarray(picture, dtype=np.uint8).transpose(2, 0, 1).copy()
    resized = processor.image_processor(picture, do_rescale=False, do_normalize=False, return_tensors="np")
    values: npt.NDArray[np.float32] = resized["pixel_values"][0, 0]
    return values.round().clip(0, 255).astype(np.uint8)


def _tokenize(samples: Sequence[Sample], processor: Idefics3Processor, *, image: bool) -> Turns:
    """Every turn through the chat template, split where the question starts."""
    head, middle, tail = _template(processor, image=image)
    header = head.rstrip(" ")
    before, end = head[len(header) :], tail[: tail.index(processor.end_of_utterance_token)]
    end += processor.end_of_utterance_token
    prompts, texts = [], []
    for sample in samples:
        for turn in sample.turns:
            _assert_plain(turn.question + turn.answer, sample.key)
            prompts.append(before + turn.question + middle.rstrip(" "))
            texts.append(before + turn.question + middle + turn.answer + end)
    backend = processor.tokenizer.backend_tokenizer
    backend.no_padding()
    backend.no_truncation()
    encodings = backend.encode_batch_fast(texts, add_special_tokens=False)
    # The prompt ends with a token of its own (the assistant's header): its length is where answers start.
    lengths = [len(item.ids) for item in backend.encode_batch_fast(prompts, add_special_tokens=False)]
    ids = [np.array(item.ids, dtype=np.int32) for item in encodings]
    return Turns(
        prefix=np.array(backend.encode(_expand(header, processor), add_special_tokens=False).ids, np.int32),
        tokens_N=np.concatenate(ids) if ids else np.zeros(0, np.int32),
        start_T=np.cumsum([0, *(len(item) for item in ids)], dtype=np.int32),
        answer_T=np.array(lengths, dtype=np.int32),
    )


def _template(processor: Idefics3Processor, *, image: bool) -> tuple[str, str, str]:
    """What the chat template puts before the question, between question and answer, and after."""
    question, answer = "\x00question\x00", "\x00answer\x00"
    chat = processor.apply_chat_template(messages(question, answer, image=image))
    head, _, rest = chat.partition(question)
    middle, _, tail = rest.partition(answer)
    return head, middle, tail


def _expand(text: str, processor: Idefics3Processor) -> str:
    """Replace the image placeholder by its tokens, as the processor does for one tile."""
    tile = processor.replace_image_token({"rows": [[0]], "cols": [[0]]}, 0)
    return text.replace(processor.image_token, tile)


def _assert_plain(text: str, key: str) -> None:
    if "<" in text and (found := [token for token in SPECIALS if token in text]):
        raise SourceError(
            f"a text holds the special token {found[0]}",
            where=f"sample {key}",
            fix="remove it in curation; it would be read as an image or as an end",
        )


def save_encoded(encoded: Encoded, directory: Path) -> None:
    """Write the arrays, whole or not at all; a directory that another run wrote first is kept."""
    partial = directory.with_name(f".{directory.name}.{uuid.uuid4().hex}")
    partial.mkdir(parents=True)
    arrays = {name: getattr(encoded, name) for name in ("category_S", "turn_S", "image_S", "images_SCHW")}
    for form in ("with_image", "text_only"):
        turns = getattr(encoded, form)
        arrays |= {f"{form}.{field.name}": getattr(turns, field.name) for field in fields(Turns)}
    arrays["categories"] = np.array(encoded.categories, dtype=np.str_)
    for name, array in arrays.items():
        np.save(partial / f"{name}.npy", array)
    try:
        os.rename(partial, directory)
    except OSError:
        shutil.rmtree(partial)


def load_encoded(directory: Path) -> Encoded:
    """Read what `save_encoded` wrote; the images stay on disk, mapped into memory."""

    def read(name: str) -> Ints:
        array: Ints = np.load(directory / f"{name}.npy")
        return array

    def turns(form: str) -> Turns:
        return Turns(**{field.name: read(f"{form}.{field.name}") for field in fields(Turns)})

    return Encoded(
        categories=tuple(str(name) for name in np.load(directory / "categories.npy")),
        category_S=read("category_S"),
        turn_S=read("turn_S"),
        image_S=read("image_S"),
        images_SCHW=np.load(directory / "images_SCHW.npy", mmap_mode="r"),
        with_image=turns("with_image"),
        text_only=turns("text_only"),
    )
