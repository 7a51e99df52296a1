"""What annotation takes and gives: a sample as its parts see it, and a proposed turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

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
    """Encoded picture, or what reads it (`place.read`): a corpus does not fit in memory. None for a sample
    that is text alone."""
    turns: tuple[Turn, ...] = ()
    """What is there already: nothing new may ask it again."""
    facts: Mapping[str, str] = field(default_factory=dict)
    label: str = ""
    category: str = ""
    source: str = ""

    def picture(self) -> bytes | None:
        """The encoded picture."""
        return self.image() if callable(self.image) else self.image

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
