"""What the text alone says about a sample, judged before anything is drawn: the cheapest filter.

Each check is a pure function of the questions and answers; a source says which apply (`TextFilter`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from components.config import TextFilter
from components.curate.samples import Reason, Turn

EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
PHONE = re.compile(r"(?:\+|\b00)\d{1,3}[ ().-]*\d(?:[ ().-]*\d){6,11}\b|\(\d{3}\)[ -]?\d{3}-\d{4}\b")
"""International numbers with their prefix, and American ones with the area code in brackets: numbers
written otherwise cannot be told from a table's."""
MAX_SHOWN = 80
"""Characters of the text that are kept as evidence."""


def find_text_problems(
    samples: Sequence[tuple[str, tuple[Turn, ...]]], filters: dict[str, TextFilter]
) -> dict[int, Reason]:
    """Position of a sample → why its text is rejected.

    Args:
        samples: Source and turns of each.
        filters: Source → what is asked of its texts.
    """
    repeats = {
        source: Counter(_shape(_answers(turns)) for own, turns in samples if own == source)
        for source, wanted in filters.items()
        if wanted.max_repeats
    }
    found: dict[int, Reason] = {}
    for position, (source, turns) in enumerate(samples):
        reason = text_problem(turns, filters[source])
        if reason is None and source in repeats:
            times = repeats[source][_shape(_answers(turns))]
            if times > filters[source].max_repeats:
                reason = Reason("boilerplate", evidence=f"{times} times: {_answers(turns)[:MAX_SHOWN]}")
        if reason is not None:
            found[position] = reason
    return found


def text_problem(turns: tuple[Turn, ...], wanted: TextFilter) -> Reason | None:
    """Why one sample's text is rejected on its own, or None."""
    if not turns or not all(turn.question.strip() and turn.answer.strip() for turn in turns):
        return Reason("empty_text")
    for turn in turns:
        if not wanted.min_chars <= len(turn.answer) <= wanted.max_chars:
            return Reason("text_length", evidence=f"{len(turn.answer)} characters")
        for code, pattern in (("email", EMAIL), ("phone", PHONE)):
            hit = pattern.search(f"{turn.question}\n{turn.answer}") if wanted.personal_data else None
            if hit:
                return Reason(code, evidence=hit.group()[:MAX_SHOWN])
    return None


def _answers(turns: tuple[Turn, ...]) -> str:
    return " / ".join(turn.answer for turn in turns)


def _shape(text: str) -> str:
    """A text up to case, spacing and numbers: `Icon 12` and `icon 7` are one boilerplate."""
    return re.sub(r"\d+", "#", " ".join(text.casefold().split()))
