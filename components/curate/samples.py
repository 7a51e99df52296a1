"""What flows through curation: a draft (planned), a candidate (its measures and where its picture lies)."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from components.reason import Reason as Reason  # a word of curation's too

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
    large one lies. Empty for a sample without an image. A reader that could not read a sample gives
    `{"failed": reason code, "evidence": text}`: the sample goes to quarantine."""
    label: str = ""
    """The source's own label for what the sample is about, where it has one."""
    facts: dict[str, str] = field(default_factory=dict)
    """What the source knows about the picture: what answers may be derived from."""
    licence: str = ""
    """The sample's own licence where the source says one per sample; empty: the source's."""
    file_name: str = ""
    """What the source calls the picture's file, where it is one."""


@dataclass(frozen=True)
class Header:
    """What the encoded picture is, told without decoding it; of a drawn one, what was drawn."""

    format: str
    width: int
    height: int
    """Pixels, after the orientation that EXIF asks for."""
    num_bytes: int
    sha256: str
    """Over the encoded bytes."""
    misnamed: bool = False
    """Whether its file's name says another format."""


@dataclass(frozen=True)
class Place:
    """Bytes of a delivered picture: a range of a file in the run's scratch directory."""

    path: Path
    offset: int
    size: int

    def read(self) -> bytes:
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


@dataclass(frozen=True)
class Picture:
    """What the one decode of a picture gave."""

    place: Place
    """Where the bytes lie that are delivered."""
    format: str
    """Of the delivered bytes; also their suffix in the shard."""
    width: int
    height: int
    """Of the delivered picture, in pixels."""
    pixels_sha256: str
    """Over the decoded pixels, so that a re-encoded copy is still the same image."""
    thumbnail: bytes
    """Luminance averaged to 32×32 and colour averaged to 8×8: what perceptual hashes are made of."""
    blur: float
    """Variance of the Laplacian; small is blurred."""
    pixels: Place | None = None
    """Raw RGB pixels for the models that judge pictures, where they are asked."""
    pixels_size: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Candidate:
    """A sample on its way through the funnel: its text and measures, never its pixels."""

    key: str
    category: str
    group: str
    split: str
    source: str
    source_version: str
    licence: str
    original_id: str
    turns: tuple[Turn, ...]
    label: str = ""
    facts: dict[str, str] = field(default_factory=dict)
    has_image: bool = True
    header: Header | None = None
    picture: Picture | None = None
    phash: str = ""
    """64-bit perceptual hash, 16 hex digits; empty without an image."""
    scores: dict[str, float] = field(default_factory=dict)
    """What models said: `nsfw`, `alignment`."""
    annotated: int = 0
    """Turns that an annotator added."""

    @property
    def text_sha256(self) -> str:
        return hash_text(self.turns)

    @property
    def image_sha256(self) -> str:
        """Over the decoded pixels; empty without an image, or before it was decoded."""
        return self.picture.pixels_sha256 if self.picture else ""

    def scored(self, name: str, value: float) -> Candidate:
        return replace(self, scores=self.scores | {name: value})


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
