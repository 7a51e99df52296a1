"""What flows through curation: a draft (planned), a candidate (rendered), and how text and pixels hash."""

from __future__ import annotations

import hashlib
import io
import json
import re
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import imagehash
from PIL import Image

Split: TypeAlias = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Turn:
    """One question about the image and its answer; turns of a sample do not see each other."""

    question: str
    answer: str


@dataclass(frozen=True)
class Draft:
    """A sample that a reader has planned but not drawn: cheap to list, to choose from, to send around."""

    original_id: str
    """Identifies the sample inside its source."""
    split: Split
    group: str
    """Held-out group in the test split, empty elsewhere."""
    turns: tuple[Turn, ...]
    payload: dict[str, Any]
    """What the reader's `load` or `render` needs, and nothing else: a small picture itself, or where a
    large one lies. Empty for a sample without an image."""
    label: str = ""
    """The source's own label for what the sample is about, where it has one."""
    facts: dict[str, str] = field(default_factory=dict)
    """What the source knows about the picture: what answers may be derived from."""
    licence: str = ""
    """The sample's own licence where the source says one per sample; empty: the source's."""


@dataclass(frozen=True)
class Candidate:
    """A rendered sample on its way through the funnel."""

    key: str
    category: str
    group: str
    split: str
    source: str
    source_version: str
    licence: str
    original_id: str
    turns: tuple[Turn, ...]
    png: bytes
    """Empty where the sample was rejected before it was drawn."""
    width: int
    height: int
    image_sha256: str
    """Over the decoded RGB pixels, so that a re-encoded copy is still the same image."""
    phash: str
    """64-bit perceptual hash, 16 hex digits."""
    problem: str
    """Reason code of the integrity filter; empty when the image is sound."""
    detail: str = ""
    """What the decoder said about the problem."""

    @property
    def text_sha256(self) -> str:
        return hash_text(self.turns)


@dataclass(frozen=True)
class Reason:
    """Why a sample was rejected."""

    code: str
    other: str = ""
    """The kept sample that it collides with."""
    evidence: str = ""
    """What was found, for a person to judge."""


def hash_text(turns: tuple[Turn, ...]) -> str:
    """SHA-256 of the questions and answers: case, spacing and the order of turns do not count."""
    lines = sorted(json.dumps([_fold(turn.question), _fold(turn.answer)]) for turn in turns)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _fold(text: str) -> str:
    return " ".join(text.casefold().split())


def slug(text: str) -> str:
    """A key that WebDataset accepts: no dot, no slash."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def share(seed: int, *parts: str) -> float:
    """A fixed pseudo-random number in [0, 1) for a name: the same on every machine and in every order."""
    text = "\0".join((str(seed), *parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def encode_png(image: Image.Image) -> bytes:
    """PNG bytes; the same pixels always give the same bytes.

    Level 3: on these images as small as level 9, in an eighth of the time.
    """
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def hash_pixels(image: Image.Image) -> str:
    """SHA-256 over size and RGB pixels."""
    return hashlib.sha256(f"{image.size}".encode() + image.convert("RGB").tobytes()).hexdigest()


def hash_perceptual(image: Image.Image) -> str:
    """64-bit DCT hash (Zauner 2010) as 16 hex digits."""
    return str(imagehash.phash(image))
