"""Why something was refused: what curation says of samples, and a chat endpoint's client of answers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reason:
    """A code that is counted, and what was found."""

    code: str
    other: str = ""
    """The kept sample that it collides with."""
    evidence: str = ""
    """What was found, for a person to judge."""
