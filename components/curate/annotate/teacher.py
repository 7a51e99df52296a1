"""Questions and answers written by a vision model behind any OpenAI-compatible endpoint.

[curate.annotate.teacher.chat]
base_url = "https://…/v1"
model = "…"
api_key_env = "TEACHER_API_KEY"

[[curate.annotate.teacher.prompts]]
name = "document"
prompt = "The picture shows this text:\\n{ocr_text}\\n\\nWrite {turns} questions that it answers. …"
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from components.chat import ChatAnswer, ChatClient, ChatRequest
from components.config.annotate import ConsistencyConfig, TeacherConfig, TeacherPrompt, placeholders
from components.curate.annotate.consistency import Same, consistency_problem, same_meaning, same_text
from components.curate.annotate.facts import fill
from components.curate.annotate.proposals import AnnotationInput, Proposed
from components.curate.samples import Reason, Turn, share

TEXT = {"type": "string"}
TURNS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "turns": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"question": TEXT, "answer": TEXT, "evidence": TEXT},
                "required": ["question", "answer", "evidence"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["turns"],
    "additionalProperties": False,
}
ANSWER_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"answer": TEXT},
    "required": ["answer"],
    "additionalProperties": False,
}
BATCH = 128
"""Requests that are held in memory, with their pictures, at once."""


@dataclass
class Taught:
    """What the teacher gave."""

    proposed: dict[str, list[Proposed]] = field(default_factory=dict)
    """Key → new turns, in the order of the prompts."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Reason code → requests that gave nothing."""


def ask_teacher(samples: Sequence[AnnotationInput], config: TeacherConfig, client: ChatClient) -> Taught:
    """Ask every prompt about every sample that it fits.

    Raises:
        ConfigError, ServerError: see `ChatClient.ask_many`.
    """
    taught = Taught()
    for begin in range(0, len(samples), BATCH):
        batch = samples[begin : begin + BATCH]
        built = [(each, *request) for each in batch for request in build_requests(each, config)]
        taught.skipped.update(request.code for _, _, request in built if isinstance(request, Reason))
        asked = [
            (each, prompt, request) for each, prompt, request in built if isinstance(request, ChatRequest)
        ]
        answers = client.ask_many([request for _, _, request in asked], title="ask the teacher")
        for (sample, prompt, _), answer in zip(asked, answers, strict=True):
            if isinstance(answer, ChatAnswer):
                turns = taught.proposed.setdefault(sample.key, [])
                turns += read_turns(answer, prompt)
            else:
                taught.skipped[answer.code] += 1
    return taught


def choose_samples(
    samples: Sequence[AnnotationInput], config: TeacherConfig, *, seed: int
) -> list[AnnotationInput]:
    """At most `max_samples` of the samples that a prompt is meant for, in their order."""
    fitting = [each for each in samples if any(_meant_for(each, prompt) for prompt in config.prompts)]
    if not config.max_samples or len(fitting) <= config.max_samples:
        return fitting
    ranked = sorted(fitting, key=lambda each: share(seed, "teacher", each.key))
    chosen = {each.key for each in ranked[: config.max_samples]}
    return [each for each in fitting if each.key in chosen]


def build_requests(
    sample: AnnotationInput, config: TeacherConfig
) -> list[tuple[TeacherPrompt, ChatRequest | Reason]]:
    """The request of each prompt that is meant for a sample, or why there is none: `missing_fact`, or why its
    picture cannot be had. The picture is loaded once, and only where a prompt is asked."""
    texts = [
        (prompt, _fill_prompt(sample, prompt)) for prompt in config.prompts if _meant_for(sample, prompt)
    ]
    asked = any(isinstance(text, str) for _, text in texts)
    image = sample.view(config.max_side) if asked else None
    requests: list[tuple[TeacherPrompt, ChatRequest | Reason]] = []
    for prompt, text in texts:
        if isinstance(text, Reason):
            requests.append((prompt, text))
        elif isinstance(image, Reason):
            requests.append((prompt, image))
        else:
            request = ChatRequest(text, images=_shown(image), system=prompt.system, schema=TURNS_SCHEMA)
            requests.append((prompt, request))
    return requests


def _fill_prompt(sample: AnnotationInput, prompt: TeacherPrompt) -> str | Reason:
    existing = "\n".join(f"- {turn.question}" for turn in sample.turns) or "(none)"
    fields = {**sample.fields(), "turns": str(prompt.turns)}
    missing = sorted(set(placeholders(prompt.prompt)) - fields.keys() - {"existing"})
    if missing:
        return Reason("missing_fact", evidence=", ".join(missing))
    # Unlike in questions, line breaks are kept: a teacher reads a table better as lines.
    return prompt.prompt.format(**{**fields, "existing": existing})


def read_turns(answer: ChatAnswer, prompt: TeacherPrompt) -> list[Proposed]:
    """The turns in an answer, as many as were wanted."""
    return [
        Proposed(
            Turn(" ".join(each["question"].split()), each["answer"].strip()),
            "teacher",
            each["evidence"].strip(),
            prompt.grounded,
        )
        for each in answer.value["turns"][: prompt.turns]
    ]


def find_inconsistent(
    turns: Sequence[tuple[AnnotationInput, Proposed]],
    config: ConsistencyConfig,
    client: ChatClient,
    *,
    max_side: int,
    threads: int,
) -> dict[int, Reason]:
    """Ask each question again `config.draws` times; position → why its answer is a guess.

    A draw whose picture cannot be had any more has failed.

    Args:
        max_side: Pixels of the longer side of the picture that is shown, as the teacher saw it.
    """
    draws: list[list[str | None]] = []
    step = max(1, BATCH // config.draws)
    for begin in range(0, len(turns), step):
        batch = turns[begin : begin + step]
        shown = {key: each.view(max_side) for key, each in {each.key: each for each, _ in batch}.items()}
        requests = [
            request
            for sample, each in batch
            if not isinstance(image := shown[sample.key], Reason)
            for request in _draws(image, each, config)
        ]
        answers = iter(client.ask_many(requests, title="ask again"))
        for sample, _ in batch:
            failed = isinstance(shown[sample.key], Reason)
            draws.append([None if failed else _said(next(answers)) for _ in range(config.draws)])
    same: Same = same_text
    if config.method == "embedding":
        texts = [each.turn.answer for _, each in turns]
        texts += [text for said in draws for text in said if text is not None]
        same = same_meaning(texts, config.min_similarity, threads=threads)
    problems = (
        consistency_problem(each.turn.answer, said, config, same)
        for (_, each), said in zip(turns, draws, strict=True)
    )
    return {number: reason for number, reason in enumerate(problems) if reason is not None}


def _draws(image: bytes | None, proposed: Proposed, config: ConsistencyConfig) -> list[ChatRequest]:
    prompt = fill(config.prompt, {"question": proposed.turn.question})
    return [
        ChatRequest(prompt, images=_shown(image), schema=ANSWER_SCHEMA, draw=draw)
        for draw in range(1, config.draws + 1)
    ]


def _said(answer: ChatAnswer | Reason) -> str | None:
    return answer.value["answer"] if isinstance(answer, ChatAnswer) else None


def _shown(image: bytes | None) -> tuple[bytes, ...]:
    return (image,) if image is not None else ()


def _meant_for(sample: AnnotationInput, prompt: TeacherPrompt) -> bool:
    return not prompt.categories or sample.category in prompt.categories
