"""What the text alone says about a sample, judged before anything is drawn: the cheapest filter.

    screened = screen_texts(samples, filters)       # position → reason, and what every check cost
    turns = redact_turns(turns, filters[source])    # where a source redacts personal data

Each check is a pure function of the questions and answers; a source says which apply (`TextFilter`).
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from components.config.text import TextFilter
from components.curate.samples import Reason, Turn
from components.curate.textual.boilerplate import find_boilerplate
from components.curate.textual.characters import (
    find_control_character,
    find_mojibake,
    find_special_token,
    markup_share,
    symbol_share,
)
from components.curate.textual.documents import find_document_problem
from components.curate.textual.language import find_other_language
from components.curate.textual.personal import find_personal, redact_personal
from components.curate.textual.profanity import find_profanity
from components.curate.textual.repetition import find_repetition

MAX_SHOWN = 80
"""Characters of the text that are kept as evidence."""
MAX_JUDGED = 1 << 20
"""Characters of a sample's text; more is no text of a sample, and is not read."""


@dataclass(frozen=True)
class Text:
    """A sample's text as the checks want it."""

    turns: tuple[Turn, ...]
    answers: tuple[str, ...]
    whole: str
    """Questions and answers, a line each."""

    @classmethod
    def of(cls, turns: tuple[Turn, ...]) -> Text:
        answers = tuple(turn.answer for turn in turns)
        return cls(turns, answers, "\n".join([*(turn.question for turn in turns), *answers]))


@dataclass(frozen=True)
class TextStep:
    """What one check did."""

    name: str
    num_in: int
    num_out: int
    seconds: float


@dataclass(frozen=True)
class Screening:
    """Position of a sample → why its text is rejected; and the count at every check."""

    problems: dict[int, Reason]
    steps: tuple[TextStep, ...]


def _length(text: Text, wanted: TextFilter) -> Reason | None:
    if not all(turn.question.strip() and turn.answer.strip() for turn in text.turns):
        return Reason("empty_text")
    if len(text.whole) > min(MAX_JUDGED, wanted.max_sample_chars):
        return Reason("text_length", evidence=f"{len(text.whole)} characters in all")
    for turn in text.turns:
        if len(turn.question) > wanted.max_question_chars:
            return Reason("text_length", evidence=f"a question of {len(turn.question)} characters")
        if not wanted.min_chars <= len(turn.answer) <= wanted.max_chars:
            return Reason("text_length", evidence=f"{len(turn.answer)} characters")
    return None


def _special_token(text: Text, wanted: TextFilter) -> Reason | None:
    if not wanted.special_tokens:
        return None
    return _reason("special_token", find_special_token(text.whole, wanted.extra_special_tokens))


def _characters(text: Text, wanted: TextFilter) -> Reason | None:
    if not wanted.characters or (text.whole.isascii() and text.whole.isprintable()):
        return None
    control = find_control_character(text.whole)
    return _reason("control_character", control) or _reason("mojibake", find_mojibake(text.whole))


def _symbols(text: Text, wanted: TextFilter) -> Reason | None:
    for answer in text.answers:
        for code, share, limit in (
            ("markup", markup_share(answer), wanted.max_markup),
            ("symbols", symbol_share(answer), wanted.max_symbols),
        ):
            if share > limit:
                return Reason(code, evidence=f"{share:.0%}: {answer[:MAX_SHOWN]}")
    return None


def _personal_data(text: Text, wanted: TextFilter) -> Reason | None:
    if wanted.personal_data != "reject":
        return None
    found = find_personal(text.whole, wanted.personal_kinds)
    return Reason(found.kind, evidence=found.text[:MAX_SHOWN]) if found else None


def _profanity(text: Text, wanted: TextFilter) -> Reason | None:
    if not wanted.profanity:
        return None
    found = find_profanity(text.whole, extra=wanted.profane_words, allowed=wanted.allowed_words)
    return _reason("profanity", found)


def _boilerplate(text: Text, wanted: TextFilter) -> Reason | None:
    if not wanted.boilerplate and not wanted.boilerplate_phrases:
        return None
    found = (
        find_boilerplate(each, wanted.boilerplate_phrases, known=wanted.boilerplate) for each in text.answers
    )
    return _reason("boilerplate", next(filter(None, found), ""))


def _repetition(text: Text, wanted: TextFilter) -> Reason | None:
    found = (find_repetition(answer, wanted.repetition) for answer in text.answers)
    return _reason("repetition", next(filter(None, found), ""))


def _document(text: Text, wanted: TextFilter) -> Reason | None:
    if wanted.document is None:
        return None
    rules = wanted.document
    found = (find_document_problem(answer, rules) for answer in text.answers)
    return _reason("document", next(filter(None, found), ""))


def _language(text: Text, wanted: TextFilter) -> Reason | None:
    if not wanted.languages:
        return None
    answers = "\n".join(text.answers)
    if len(answers) < wanted.language_min_chars:
        return None
    found = find_other_language(answers, wanted.languages, confidence=wanted.language_confidence)
    return Reason("language", evidence=f"{found}: {answers[:MAX_SHOWN]}") if found else None


CHECKS: Mapping[str, Callable[[Text, TextFilter], Reason | None]] = {
    "length": _length,
    "characters": _characters,
    "special_token": _special_token,
    "symbols": _symbols,
    "boilerplate": _boilerplate,
    "personal_data": _personal_data,
    "repetition": _repetition,
    "document": _document,
    "profanity": _profanity,
    "language": _language,
}
"""What is asked of one sample, cheapest first. `repeats` is asked of all of a source, and last."""


def screen_texts(
    samples: Sequence[tuple[str, tuple[Turn, ...]]],
    filters: Mapping[str, TextFilter],
    *,
    may_be_empty: Collection[str] = (),
) -> Screening:
    """Run every check over what the ones before it left.

    Args:
        samples: Source and turns of each.
        filters: Source → what is asked of its texts.
        may_be_empty: Sources whose samples may have no turn yet, because an annotator adds some.
    """
    problems: dict[int, Reason] = {}
    steps: list[TextStep] = []
    pending: list[tuple[int, TextFilter, Text]] = []
    for position, (source, turns) in enumerate(samples):
        if turns:
            pending.append((position, filters[source], Text.of(turns)))
        elif source not in may_be_empty:
            problems[position] = Reason("empty_text")
    num_empty = len(problems)
    for name, check in CHECKS.items():
        begin, left = time.monotonic(), []
        for item in pending:
            reason = check(item[2], item[1])
            if reason is None:
                left.append(item)
            else:
                problems[item[0]] = reason
        num_in = len(pending) + (num_empty if name == "length" else 0)
        steps.append(TextStep(name, num_in, len(left), round(time.monotonic() - begin, 3)))
        pending = left
    begin = time.monotonic()
    repeats = _find_repeats(samples, filters, [position for position, _, _ in pending])
    problems |= repeats
    seconds = round(time.monotonic() - begin, 3)
    steps.append(TextStep("repeats", len(pending), len(pending) - len(repeats), seconds))
    return Screening(dict(sorted(problems.items())), tuple(steps))


def find_text_problems(
    samples: Sequence[tuple[str, tuple[Turn, ...]]],
    filters: Mapping[str, TextFilter],
    *,
    may_be_empty: Collection[str] = (),
) -> dict[int, Reason]:
    """Position of a sample → why its text is rejected; the arguments are those of `screen_texts`."""
    return screen_texts(samples, filters, may_be_empty=may_be_empty).problems


def text_problem(turns: tuple[Turn, ...], wanted: TextFilter, *, may_be_empty: bool = False) -> Reason | None:
    """Why one sample's text is rejected on its own, or None."""
    if not turns:
        return None if may_be_empty else Reason("empty_text")
    text = Text.of(turns)
    return next((reason for check in CHECKS.values() if (reason := check(text, wanted))), None)


def redact_turns(turns: tuple[Turn, ...], wanted: TextFilter) -> tuple[Turn, ...]:
    """The turns without personal data, where the source redacts it; the very same ones otherwise."""
    if wanted.personal_data != "redact":
        return turns
    kinds = wanted.personal_kinds
    return tuple(
        replace(
            turn,
            question=redact_personal(turn.question, kinds),
            answer=redact_personal(turn.answer, kinds),
        )
        for turn in turns
    )


def _find_repeats(
    samples: Sequence[tuple[str, tuple[Turn, ...]]],
    filters: Mapping[str, TextFilter],
    left: Sequence[int],
) -> dict[int, Reason]:
    """Answers that too many samples of their source share; counted over all of its samples."""
    counted = {source for source, wanted in filters.items() if wanted.max_repeats}
    if not counted:
        return {}
    shapes = {
        place: (source, _shape(_answers(turns)))
        for place, (source, turns) in enumerate(samples)
        if source in counted and turns
    }
    times = Counter(shapes.values())
    return {
        place: Reason(
            "boilerplate", evidence=f"{times[shapes[place]]} times: {_answers(samples[place][1])[:MAX_SHOWN]}"
        )
        for place in left
        if place in shapes and times[shapes[place]] > filters[shapes[place][0]].max_repeats
    }


def _reason(code: str, evidence: str) -> Reason | None:
    return Reason(code, evidence=evidence[:MAX_SHOWN]) if evidence else None


def _answers(turns: tuple[Turn, ...]) -> str:
    return " / ".join(turn.answer for turn in turns)


def _shape(text: str) -> str:
    """A text up to case, spacing and numbers: `Icon 12` and `icon 7` are one boilerplate."""
    return re.sub(r"\d+", "#", " ".join(text.casefold().split()))
