"""What annotation takes and gives: a sample as its parts see it, and a proposed turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from components.config.text import TextFilter
from components.curate.samples import Reason, Turn

Method: TypeAlias = Literal["facts", "tables", "ocr", "teacher"]

OCR_TEXT, OCR_BOXES = "ocr_text", "ocr_boxes"
"""Facts that OCR adds: the text in reading order, and JSON `[[x0, y0, x1, y1, text, confidence], ...]` in
pixels of the picture that was read."""


@dataclass(frozen=True)
class AnnotationInput:
    """One sample as annotation sees it."""

    key: str
    image: bytes | Callable[[], bytes] | None
    """Encoded picture as it is delivered, or what reads it (`place.read`): a corpus does not fit in memory.
    None for a sample that is text alone."""
    original: Callable[[int], bytes | Reason] | None = None
    """Pixels of the longer side → the source's own picture, brought down to that: what OCR and the teacher
    read, as a delivered one may be too small to read. None: `image` is all there is."""
    turns: tuple[Turn, ...] = ()
    """What is there already: nothing new may ask it again."""
    facts: Mapping[str, str] = field(default_factory=dict)
    label: str = ""
    category: str = ""
    source: str = ""
    text: TextFilter = field(default_factory=TextFilter)
    """What its source asks of texts: new ones must satisfy it too."""

    def picture(self) -> bytes | None:
        """The encoded picture as it is delivered: what people review."""
        return self.image() if callable(self.image) else self.image

    def view(self, side: int) -> bytes | Reason | None:
        """The encoded picture to read from, loaded anew at each call; its longer side is at most `side`
        pixels where the source is at hand. A Reason where it cannot be had."""
        return self.original(side) if self.original is not None else self.picture()

    def fields(self) -> dict[str, str]:
        """What templates are filled from; an empty one counts as missing."""
        known = {**self.facts, "label": self.label, "category": self.category, "source": self.source}
        return {name: value for name, value in known.items() if value.strip()}


@dataclass(frozen=True)
class Proposed:
    """A new turn, where it comes from, and what it rests on."""

    turn: Turn
    method: Method
    evidence: str = ""
    grounded: bool = True
    """Whether it must be derivable from facts or OCR text."""


@dataclass(frozen=True)
class RejectedTurn:
    """A proposed turn that was not good enough."""

    key: str
    proposed: Proposed
    reason: Reason
