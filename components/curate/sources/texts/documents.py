"""What a text source holds: documents, with exchanges that can be asked and texts that can be drawn."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Exchange:
    """Something that the document answers."""

    kind: str
    about: str
    """What the question names, or the question itself."""
    answer: str
    facts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Document:
    """What is held out as a whole."""

    name: str
    exchanges: tuple[Exchange, ...]
    texts: tuple[str, ...]
    """Paragraphs, each on one line."""


def flatten(text: str) -> str:
    """All on one line."""
    return " ".join(text.split())


def cut(text: str, *, least: int, most: int) -> Iterator[str]:
    """A text in pieces of whole words, each of `least` to `most` characters; the rest is left out."""
    piece = ""
    for word in text.split():
        longer = f"{piece} {word}" if piece else word
        if len(longer) > most:
            if least <= len(piece):
                yield piece
            piece = word if len(word) <= most else ""
        else:
            piece = longer
    if least <= len(piece):
        yield piece


def drawable(text: str) -> bool:
    """Whether every font that opsin draws with has these characters."""
    return re.fullmatch(r"[A-Za-z0-9 .,;:!?()'-]+", text) is not None
