"""The `[curate.annotate]` section: where new questions and answers come from, and what they must satisfy."""

from __future__ import annotations

import re
import string
from statistics import NormalDist
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from components.config.base import Frozen, execution_field
from components.config.chat import ChatConfig

FIELD_NAME = re.compile(r"[A-Za-z_][\w ,'-]*\Z")
"""Names of facts may hold spaces: `{number of digits}`."""


def placeholders(template: str) -> tuple[str, ...]:
    """Names in braces, in their order; `{{` is a brace.

    Raises:
        ValueError: a brace that is not closed, or more in it than a name.
    """
    names = []
    for _, name, spec, conversion in string.Formatter().parse(template):
        if name is None:
            continue
        if spec or conversion or not FIELD_NAME.match(name):
            raise ValueError(f"'{{{name}}}' is no placeholder: only names of facts stand in braces")
        names.append(name)
    return tuple(names)


class FactTemplate(Frozen):
    """Questions with one answer, filled from what the source knows: `{country}` is the fact `country`;
    `{label}`, `{category}` and `{source}` are there too. A sample that lacks one is left out."""

    question: tuple[str, ...] = Field(min_length=1)
    """Wordings of the same question; a hash of the sample chooses."""
    answer: str = Field(min_length=1)
    when: dict[str, str] = Field(default_factory=dict)
    """Fact → regular expression that the whole of it must match."""

    @model_validator(mode="after")
    def _grounded(self) -> Self:
        for text in (*self.question, self.answer):
            placeholders(text)
        for pattern in self.when.values():
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"when: '{pattern}' is no regular expression: {error}") from error
        if not placeholders(self.answer) and not self.when:
            raise ValueError(
                f"answer '{self.answer}' rests on nothing: give it a {{placeholder}} or a `when`"
            )
        return self


class TableFactsConfig(Frozen):
    """Questions that are computed from a table which a sample carries as JSON in one of its facts."""

    fact: str = "table"
    """Fact that holds `{"columns": [...], "rows": [[...], ...]}`; the first column names the rows."""
    kinds: tuple[Literal["count", "lookup", "maximum", "minimum", "compare"], ...] = (
        "count", "lookup", "maximum", "minimum", "compare",
    )  # fmt: skip
    per_sample: int = Field(3, ge=1)


class OcrConfig(Frozen):
    """Text found by the packaged OCR model, asked for as a whole."""

    categories: tuple[str, ...] = ()
    """Categories whose pictures are read; empty: all."""
    questions: tuple[str, ...] = Field(
        ("Read the text.", "What does the text say?", "Transcribe the text in the picture."), min_length=1
    )
    """Wordings; a hash of the sample chooses. No question is asked where this section only supplies facts
    (`ask = false`)."""
    ask: bool = True
    """Whether the text becomes a question, or only a fact that other answers may rest on."""
    min_confidence: float = Field(0.9, ge=0, le=1)
    """A picture with a line below this is left out: what is half read is not what the picture says."""
    noise_confidence: float = Field(0.5, ge=0, le=1)
    """Lines below this are taken for no text at all."""
    min_chars: int = Field(2, ge=1)
    max_chars: int = Field(1000, ge=1)
    """Characters of the whole text."""
    max_side: int = Field(2000, ge=32)
    """Pixels of the longer side that a picture is brought down to before it is read. It is the source's own
    that is read, loaded once more: the delivered one (`image_size`) may be too small."""


class TeacherPrompt(Frozen):
    """One way of asking the teacher for questions and answers about a sample."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    prompt: str = Field(min_length=1)
    """Placeholders as in the templates, and `{ocr_text}`, `{existing}` (questions that are there already)
    and `{turns}` (how many are wanted). A sample that lacks one is left out."""
    system: str = ""
    categories: tuple[str, ...] = ()
    """Categories it is asked for; empty: all."""
    turns: int = Field(3, ge=1, le=50)
    """Questions wanted per sample; what comes above that is dropped."""
    grounded: bool = True
    """Whether its answers must be derivable from OCR text or facts. What only the picture shows cannot be:
    such prompts turn this off and rest on self-consistency."""

    @field_validator("prompt")
    @classmethod
    def _names(cls, text: str) -> str:
        placeholders(text)
        return text


class ConsistencyConfig(Frozen):
    """Ask each question again, on its own, and keep the answer only where the others agree."""

    draws: int = Field(3, ge=1, le=20)
    """Times that the teacher is asked again; each with its own seed, so its temperature must not be 0."""
    min_agreement: float = Field(0.67, ge=0, le=1)
    """Share of the draws that must agree with the answer. A draw that failed agrees with nothing."""
    method: Literal["exact", "embedding"] = "exact"
    """Agreement: equal after normalisation, or close in the embedding of the packaged MiniLM (and equal in
    all numbers, negations and yes or no)."""
    min_similarity: float = Field(0.8, ge=-1, le=1)
    """Cosine from which two answers count as the same; `embedding` only."""
    prompt: str = "Answer with a word or a short phrase, from the picture alone: {question}"

    @field_validator("prompt")
    @classmethod
    def _asks(cls, text: str) -> str:
        if placeholders(text) != ("question",):
            raise ValueError("the prompt must have the placeholder {question}, once, and no other")
        return text


class TeacherConfig(Frozen):
    """A vision model behind an OpenAI-compatible endpoint that writes questions and answers."""

    chat: ChatConfig
    prompts: tuple[TeacherPrompt, ...] = Field(min_length=1)
    consistency: ConsistencyConfig | None = None
    max_samples: int = Field(0, ge=0)
    """Samples to ask about at most (a seeded choice); 0: all."""
    max_side: int = Field(1024, ge=32)
    """Pixels of the longer side that the picture it is shown is brought down to: the source's own, loaded
    once more, and not the delivered one."""

    @model_validator(mode="after")
    def _sampled(self) -> Self:
        names = [prompt.name for prompt in self.prompts]
        if len(set(names)) < len(names):
            raise ValueError(f"prompts: names must differ, got {', '.join(names)}")
        if self.consistency is not None and not self.chat.temperature:
            raise ValueError("consistency: at chat.temperature = 0 all draws are one; raise it, to 0.7 say")
        return self


class QualityConfig(Frozen):
    """What every new turn must satisfy."""

    max_question_chars: int = Field(500, ge=1)
    max_answer_chars: int = Field(2000, ge=1)
    max_span_words: int = Field(8, ge=1)
    """All that an answer up to this length says beyond the question must stand word for word in a fact or in
    the OCR text; longer ones are judged by the share of their words."""
    min_coverage: float = Field(0.8, gt=0, le=1)
    """Share of a longer answer's content words that must occur in the facts, the text or the question."""
    unverifiable: Literal["reject", "keep"] = "reject"
    """What becomes of a yes or no whose question names nothing that could be looked up."""
    duration_fact: str = "duration_s"
    """Fact that holds the seconds of a clip: times in its questions and answers (`1:30`, `12 s`, `3m20s`,
    `5 minutes`) must lie inside."""


class ReviewConfig(Frozen):
    """The sample of new turns that people look at, and what it must show."""

    share: float = Field(0.01, gt=0, le=1)
    at_least: int = Field(50, ge=1)
    """Turns in the sample at least (all of them where there are fewer)."""
    file: str = ""
    """CSV or JSONL of reviews: key, turn, accepted, note. Empty: none yet."""
    min_accepted_rate: float = Field(0.9, gt=0, lt=1)
    """Lower bound of the accepted rate from which the gate passes."""
    confidence: float = Field(0.95, ge=0.5, le=0.9999)
    """Of the one-sided Wilson bound."""
    require_reviews: bool = False
    """Whether the gate fails while a turn of the sample is not reviewed. Where it is off, missing reviews
    are reported and only those that are there are judged."""

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        # All of n accepted gives the Wilson bound n / (n + z²).
        z, rate = NormalDist().inv_cdf(self.confidence), self.min_accepted_rate
        needed = int(z * z * rate / (1 - rate)) + 1
        if self.at_least < needed:
            raise ValueError(
                f"at_least = {self.at_least} reviews cannot show a rate of {rate:g}, even when all are "
                f"accepted: {needed} can"
            )
        return self


class AnnotateConfig(Frozen):
    """New questions and answers for training samples: facts, tables, OCR and a teacher; all validated, and
    held against the text filter of their source (but for `min_chars` and `document`, which are about the
    source's own prose, and `max_repeats`)."""

    facts: tuple[FactTemplate, ...] = ()
    max_facts_per_sample: int = Field(4, ge=1)
    """Templates used per sample at most; a hash of the sample chooses."""
    tables: TableFactsConfig | None = None
    ocr: OcrConfig | None = None
    teacher: TeacherConfig | None = None
    quality: QualityConfig = QualityConfig()
    review: ReviewConfig = ReviewConfig()
    held_out: bool = False
    """Whether validation and test samples that have no question get some too; without, they are rejected
    (`empty_text`). Those that have questions never get others: what is measured is what the source asks."""
    cache: str = execution_field("")
    """Folder that keeps OCR results and paid answers, so that no run pays for one again; empty: the
    workspace's `.opsin/cache/annotate/<dataset>`. The budget counts all that was ever paid into it."""
