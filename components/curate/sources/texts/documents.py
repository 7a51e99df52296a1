"""What a text source holds: documents, with exchanges that can be asked and texts that can be drawn."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

ACCENTS = {"'": "\u0301", "`": "\u0300", "^": "\u0302", '"': "\u0308", "~": "\u0303", ",": "\u0327"}
"""What a typewriter's mark becomes where a letter is struck over it."""


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


def resolve_overstrikes(text: str) -> str:
    """What a printer would show of text with backspaces: `__\\b\\bIT` is `IT`, `Jos'\\be` is `José`.

    Of two characters in one place an underline or the same letter gives way, a mark becomes the letter's
    accent, and of any others the later one stays. Bells, which show nothing, go.
    """
    return "\n".join(map(_resolve_line, text.replace("\a", "").split("\n")))


def _resolve_line(line: str) -> str:
    cells: list[str] = []
    place = 0
    for character in line:
        if character == "\b":
            place = max(0, place - 1)
            continue
        if place == len(cells):
            cells.append(character)
        else:
            cells[place] = _strike(cells[place], character)
        place += 1
    return "".join(cells)


def _strike(below: str, above: str) -> str:
    """The one character that two in the same place show."""
    if above == "_":
        return below
    accented = unicodedata.normalize("NFC", above + ACCENTS.get(below, ""))
    return accented if len(accented) == 1 else above


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
