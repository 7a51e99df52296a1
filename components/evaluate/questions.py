"""Which held-out questions are asked: a seeded choice by content, the same for every checkpoint and run."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from components.errors import OpsinError
from components.loader import Asked, Sample


@dataclass(frozen=True)
class Question:
    """One held-out turn, with the ground truth."""

    key: str
    """Of its sample."""
    turn: int
    """Index of the turn in its sample."""
    category: str
    group: str
    """`<category>/<held-out group>`."""
    question: str
    answer: str
    asked: Asked
    """The question with its pictures and, in a chat, with what was said before it."""


def choose(samples: Iterable[Sample], limit: int, seed: int) -> list[Question]:
    """At most `limit` questions per group, in an order that only keys, turns and `seed` decide.

    Removing a sample never moves another one in or out except at the limit, so scores of two versions
    of a dataset rest on nearly the same questions.

    Raises:
        OpsinError: no sample has a question.
        SourceError: a sample's texts have not as many places as it has pictures.
    """
    ranked: dict[str, list[tuple[str, Question]]] = defaultdict(list)
    for sample in samples:
        group = f"{sample.category}/{sample.group}" if sample.group else sample.category
        for index, turn in enumerate(sample.turns):
            rank = hashlib.sha256(f"{seed}:{sample.key}:{index}".encode()).hexdigest()
            asked = sample.asked(index)
            question = Question(sample.key, index, sample.category, group, turn.question, turn.answer, asked)
            ranked[group].append((rank, question))
    if not ranked:
        raise OpsinError(
            "there is nothing to evaluate on: the test split holds no question",
            fix="add a source with held-out samples to curate.sources",
        )
    chosen: list[Question] = []
    for group in sorted(ranked):
        by_rank = sorted(ranked[group], key=lambda pair: pair[0])
        chosen.extend(question for _, question in by_rank[:limit])
    return chosen
