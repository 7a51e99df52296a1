"""What every new turn must satisfy, as pure functions with reason codes.

| code | what it means |
|---|---|
| `empty` | no question or no answer |
| `bad_characters` | what is no text: half a surrogate pair, control characters |
| `too_long` | more characters than `quality` allows |
| `echo` | the answer repeats the question |
| `placeholder` | a template that was not filled (teacher only) |
| `refusal` | "I cannot …", "unknown", "the image does not show …" (teacher only) |
| `mentions_prompt` | speaks of metadata or OCR, which only the prompt knew (teacher only) |
| `given_away` | the answer stands in the question (teacher only) |
| `duplicate_question` | the sample has this question already |
| `timestamp_outside`, `timestamp_order` | a time that is not in the clip, a span that ends before it begins |
| `ungrounded`, `ungrounded_number`, `unverifiable` | see `grounding` |
| `special_token`, `email`, `profanity`, `text_length`, … | the source's text filter, as of its own texts |
| `inconsistent` | see `consistency` |
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

from components.answers import normalise
from components.config.annotate import QualityConfig
from components.config.text import TextFilter
from components.curate.annotate.grounding import Grounds, grounding_problem
from components.curate.annotate.proposals import AnnotationInput, Proposed, RejectedTurn
from components.curate.samples import Reason, Turn
from components.curate.text import redact_turns, text_problem

MAX_SHOWN = 80
"""Characters of a text that are kept as evidence."""
BAD_CHARACTERS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffd]")
PLACEHOLDER = re.compile(
    r"\{\w*\}|\[(?:insert|your|answer|question|todo)[^\]]*\]|<(?:answer|question)>", re.I
)
REFUSAL = re.compile(
    r"\bi(?: am|['’]m) (?:sorry|unable|not able|afraid)\b"
    r"|\bi (?:can(?:['’]t|not| not)|could(?:n['’]t| not)|do(?:n['’]t| not)) "
    r"(?:see|say|view|answer|help|provide|determine|identify|know|assist|read|access|tell|comply|have)\b"
    r"|\bas an? (?:ai|artificial|(?:large )?language model)\b"
    r"|\b(?:cannot|can['’]t|could not) be (?:determined|answered|seen|identified|read|known)\b"
    r"|\b(?:unable|impossible|not possible) to (?:determine|tell|answer|say|see|identify|read)\b"
    r"|\bno (?:image|picture|information|context) (?:is |was )?(?:provided|given|attached|available)\b"
    r"|\bdoes(?:n['’]t| not) (?:show|contain|provide|specify|mention|say)\b"
    r"|^\W*(?:unknown|n/?a|none|unclear|unanswerable|not (?:available|provided|specified|visible|mentioned"
    r"|given|known|shown|applicable))\W*$",
    re.IGNORECASE,
)
MENTION = re.compile(r"\b(?:meta-?data|ocr|provided (?:facts|text|information|context)|the prompt)\b", re.I)
TIMESTAMP = re.compile(
    r"(?<![\d:.])(?:(?P<h>\d{1,2}):)?(?P<m>\d{1,2}):(?P<s>\d{2}(?:\.\d+)?)(?![\d:])"
    r"|(?<![\w:.])(?P<amounts>\d+(?:\.\d+)?[\s-]?(?:hours?|hrs?|h|minutes?|mins?|m(?=\s?\d+(?:\.\d+)?\s?s)|seconds?|secs?|s)"
    r"(?![a-z])(?:,?\s?(?:and\s)?\d+(?:\.\d+)?\s?(?:minutes?|mins?|m|seconds?|secs?|s)(?![a-z])){0,2})"
    r"|\b(?P<unit>hour|minute|second)s?\s(?P<at>\d+(?:\.\d+)?)\b",
    re.IGNORECASE,
)
AMOUNT = re.compile(r"(\d+(?:\.\d+)?)[\s-]?([hms])", re.IGNORECASE)
SECONDS = {"h": 3600, "m": 60, "s": 1}
DECADE = re.compile(r"(?:1\d|20)\d0s")
SPAN = re.compile(r"\s*(?:to|until|till|-|–|—)\s*", re.IGNORECASE)


def validate(
    sample: AnnotationInput, proposed: Iterable[Proposed], config: QualityConfig
) -> tuple[list[Proposed], list[RejectedTurn]]:
    """What is good enough of a sample's new turns, and the rest with reasons; in their order.

    Where the source redacts personal data, what is kept holds none: it is blanked when it has been compared
    with the facts, which do hold it.
    """
    kept: list[Proposed] = []
    rejected: list[RejectedTurn] = []
    grounds = Grounds.of(sample)
    asked = {normalise(turn.question) for turn in sample.turns}
    duration = clip_seconds(sample, config)
    for each in proposed:
        reason = turn_problem(each, grounds, config, duration=duration, asked=asked)
        (turn,) = redact_turns((each.turn,), sample.text)
        reason = reason or new_text_problem(turn, [*sample.turns, *(one.turn for one in kept)], sample.text)
        if reason is None:
            kept.append(replace(each, turn=turn))
            asked |= {normalise(each.turn.question), normalise(turn.question)}
        else:
            rejected.append(RejectedTurn(sample.key, each, reason))
    return kept, rejected


def turn_problem(
    proposed: Proposed,
    grounds: Grounds,
    config: QualityConfig,
    *,
    duration: float | None,
    asked: Iterable[str] = (),
) -> Reason | None:
    """The first thing that is wrong with a turn, cheapest check first; None for a good one.

    Args:
        duration: Seconds of the clip; None for a picture.
        asked: Normalised questions that the sample has already.
    """
    turn = proposed.turn
    reason = format_problem(turn, config)
    if reason is None and proposed.method == "teacher":
        reason = refusal_problem(turn) or leak_problem(turn)
    if reason is None and normalise(turn.question) in asked:
        reason = Reason("duplicate_question", evidence=turn.question[:MAX_SHOWN])
    if reason is None and duration is not None:
        reason = timestamp_problem(turn.question, duration) or timestamp_problem(turn.answer, duration)
    # Facts, tables and OCR are what answers are derived from: theirs are grounded by construction.
    if reason is None and proposed.method == "teacher" and proposed.grounded:
        reason = grounding_problem(turn, grounds, config)
    return reason


def new_text_problem(turn: Turn, there: Sequence[Turn], wanted: TextFilter) -> Reason | None:
    """What a source's text filter has against a turn that was not the source's.

    The least length and the rules for documents are left out: they are about the source's own prose, and a
    short answer fails them by what it is.

    Args:
        there: The sample's turns so far, which count towards the characters of all of it.
    """
    lenient = wanted.model_copy(update={"min_chars": min(1, wanted.min_chars), "document": None})
    total = sum(len(each.question) + len(each.answer) for each in (*there, turn))
    if total > wanted.max_sample_chars:
        return Reason("text_length", evidence=f"{total} characters in all")
    return text_problem((turn,), lenient)


def format_problem(turn: Turn, config: QualityConfig) -> Reason | None:
    """Empty, too long, a repeated question."""
    if not turn.question.strip() or not turn.answer.strip():
        return Reason("empty", evidence="answer" if turn.question.strip() else "question")
    for name, text, most in (
        ("question", turn.question, config.max_question_chars),
        ("answer", turn.answer, config.max_answer_chars),
    ):
        if BAD_CHARACTERS.search(text):
            return Reason("bad_characters", evidence=repr(BAD_CHARACTERS.findall(text)[:5])[:MAX_SHOWN])
        if len(text) > most:
            return Reason("too_long", evidence=f"{name} of {len(text)} characters")
    question = normalise(turn.question)
    if question and f" {question} " in f" {normalise(turn.answer)} ":
        return Reason("echo", evidence=turn.answer[:MAX_SHOWN])
    return None


def refusal_problem(turn: Turn) -> Reason | None:
    """An answer that is none."""
    hit = REFUSAL.search(turn.answer)
    return Reason("refusal", evidence=hit.group()[:MAX_SHOWN]) if hit else None


def leak_problem(turn: Turn) -> Reason | None:
    """What a person who sees only the picture would not say, or would not have to look for."""
    for code, pattern in (("placeholder", PLACEHOLDER), ("mentions_prompt", MENTION)):
        hit = pattern.search(f"{turn.question}\n{turn.answer}")
        if hit:
            return Reason(code, evidence=hit.group()[:MAX_SHOWN])
    question, answer = normalise(turn.question), normalise(turn.answer)
    chooses = " or " in f" {question} " or answer in ("yes", "no")
    if answer and not chooses and f" {answer} " in f" {question} ":
        return Reason("given_away", evidence=turn.answer[:MAX_SHOWN])
    return None


def timestamp_problem(text: str, duration: float) -> Reason | None:
    """A time (`1:02:03`, `00:12.5`, `12 s`, `3m20s`, `5 minutes`, `second 12`) outside a clip of `duration`
    seconds, or a span of two times that ends before it begins.

    An `m` alone is a metre; `the 1990s` are a decade.
    """
    times = [
        (match, _seconds(match)) for match in TIMESTAMP.finditer(text) if not DECADE.fullmatch(match.group())
    ]
    for match, seconds in times:
        if seconds > duration:
            return Reason("timestamp_outside", evidence=f"{match.group()} of {duration:g} s")
    for (first, begin), (second, end) in pairwise(times):
        if SPAN.fullmatch(text[first.end() : second.start()]) and end < begin:
            return Reason("timestamp_order", evidence=text[first.start() : second.end()][:MAX_SHOWN])
    return None


def clip_seconds(sample: AnnotationInput, config: QualityConfig) -> float | None:
    """How long a sample's clip is, where it says so."""
    try:
        seconds = float(sample.facts.get(config.duration_fact, ""))
    except ValueError:
        return None
    return seconds if 0 < seconds < float("inf") else None


def _seconds(match: re.Match[str]) -> float:
    if match["amounts"]:
        return sum(float(number) * SECONDS[unit.lower()] for number, unit in AMOUNT.findall(match["amounts"]))
    if match["at"]:
        return float(match["at"]) * SECONDS[match["unit"][0].lower()]
    return int(match["h"] or 0) * 3600 + int(match["m"]) * 60 + float(match["s"])


def reason_counts(rejected: Sequence[RejectedTurn]) -> dict[str, int]:
    """`method/code` → rejected turns, sorted by name."""
    counts: dict[str, int] = {}
    for each in rejected:
        name = f"{each.proposed.method}/{each.reason.code}"
        counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items()))
