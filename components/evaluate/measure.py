"""From answers to numbers: exact match, intervals, end-token rate, repetition, per group and category."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from components.answers import is_correct
from components.evaluate.questions import Question
from components.gates.quality import Bootstrap, Interval, clustered_mean, gain_over_question_only
from components.vlm import Generation

LOOP_TOKENS = 8
"""Longest n-gram that is looked for in a loop."""
LOOP_TIMES = 4
"""Back-to-back repeats that make a loop."""
NUM_DIGITS = 6
"""Digits kept in scores.json: enough for any reader, blind to the last bits."""


def predictions(
    questions: Sequence[Question],
    generations: Sequence[Generation],
    blind: Mapping[str, Mapping[str, str]],
) -> pd.DataFrame:
    """One row a question.

    Args:
        questions: What was asked, shape (n,).
        generations: What the model answered, shape (n,).
        blind: Category → question → the question-only baseline's answer.
    """
    rows = []
    for question, generation in zip(questions, generations, strict=True):
        guess = blind.get(question.category, {}).get(question.question, "")
        correct = is_correct(generation.text, question.answer)
        rows.append(
            {
                "key": question.key,
                "turn": question.turn,
                "category": question.category,
                "group": question.group,
                "question": question.question,
                "answer": question.answer,
                "prediction": generation.text,
                "correct": float(correct),
                "question_only_prediction": guess,
                "question_only_correct": float(is_correct(guess, question.answer)),
                "ended": generation.ended,
                "repeats": not correct and has_loop(generation.token_ids),
            }
        )
    return pd.DataFrame(rows)


def has_loop(token_ids: Sequence[int]) -> bool:
    """Whether some n-gram (n up to 8 tokens) stands 4 times back to back: the model is stuck."""
    ids = list(token_ids)
    for size in range(1, LOOP_TOKENS + 1):
        same = 0  # length of the run in which each token equals the one `size` before it
        for index in range(size, len(ids)):
            same = same + 1 if ids[index] == ids[index - size] else 0
            if same >= size * (LOOP_TIMES - 1):
                return True
    return False


def scores(frame: pd.DataFrame, how: Bootstrap) -> dict[str, dict[str, Any]]:
    """Scores per group, and per category where a category has several groups (see `Scores`)."""
    result = {str(group): _score(rows, how) for group, rows in frame.groupby("group", sort=True)}
    for category, rows in frame.groupby("category", sort=True):
        if rows["group"].nunique() > 1:
            result[str(category)] = _score(rows, how)
    return dict(sorted(result.items()))


def _score(rows: pd.DataFrame, how: Bootstrap) -> dict[str, Any]:
    keys = rows["key"].tolist()
    return {
        "metric": "exact_match",
        **_interval(clustered_mean(rows["correct"].tolist(), keys, how)),
        "n": len(rows),
        "question_only": _interval(clustered_mean(rows["question_only_correct"].tolist(), keys, how)),
        "gain": _interval(gain_over_question_only(rows, how)),
        "end_token_rate": round(float(rows["ended"].mean()), NUM_DIGITS),
        "repetition_rate": round(float(rows["repeats"].mean()), NUM_DIGITS),
    }


def _interval(interval: Interval) -> dict[str, float]:
    return {name: round(getattr(interval, name), NUM_DIGITS) for name in ("value", "low", "high")}
