"""The question-only baseline: how far the wording of the question goes without the image.

Many visual questions give their answer away ("Is there a red shape?" is mostly "no"), so a score means
little without the score of a model that cannot see. Per category two classifiers are fitted on the
training split, and the one that does better on the validation split is the baseline:

- the most frequent answer to the same question, and for a question never seen, the vote of its nearest
  neighbours by TF-IDF;
- a logistic regression on word n-grams over the most frequent answers (the usual blind baseline of VQA).
"""

from __future__ import annotations

import json
import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors

from components.answers import is_correct, normalise
from components.artifacts import Dataset, write_atomic
from components.fingerprint import code_hash
from components.loader import Sample, read_samples

NEIGHBOURS = 15
MAX_ANSWERS = 100
"""Classes of the logistic regression; rarer answers are left to the other classifier."""

Turns: TypeAlias = Sequence[tuple[str, str]]
"""(question, answer) pairs of one category."""


class Blind(Protocol):
    def predict(self, questions: Sequence[str]) -> list[str]:
        """An answer to each question."""


class MostFrequent:
    """The most frequent answer to the same question, backed by the nearest questions' vote."""

    def __init__(self, turns: Turns) -> None:
        self._answers: dict[str, Counter[str]] = defaultdict(Counter)
        for question, answer in turns:
            self._answers[normalise(question)][answer] += 1
        self._known = sorted(self._answers)
        self._vectors = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\S+")
        matrix = self._vectors.fit_transform(self._known)
        self._near = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(self._known)), metric="cosine")
        self._near.fit(matrix)

    def predict(self, questions: Sequence[str]) -> list[str]:
        texts = [normalise(question) for question in questions]
        unseen = sorted({text for text in texts if text not in self._answers})
        votes = dict(zip(unseen, self._vote(unseen), strict=True))
        return [_most_common(self._answers[text]) if text not in votes else votes[text] for text in texts]

    def _vote(self, texts: list[str]) -> list[str]:
        if not texts:
            return []
        _, indices = self._near.kneighbors(self._vectors.transform(texts))
        tallies = [sum((self._answers[self._known[i]] for i in row), Counter[str]()) for row in indices]
        return [_most_common(tally) for tally in tallies]


class Regression:
    """Logistic regression on word 1- and 2-grams over the most frequent answers."""

    def __init__(self, turns: Turns) -> None:
        frequent = Counter(answer for _, answer in turns).most_common()
        kept = {answer for answer, _ in sorted(frequent, key=lambda pair: (-pair[1], pair[0]))[:MAX_ANSWERS]}
        # One row per distinct pair, weighted by how often it occurs: templated questions repeat a lot.
        pairs = Counter((normalise(q), a) for q, a in turns if a in kept)
        rows = sorted(pairs)
        self._only = rows[0][1] if len(kept) == 1 else None
        self._vectors = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\S+", binary=True)
        self._model = LogisticRegression(C=10.0, max_iter=200)
        if self._only is None:
            matrix = self._vectors.fit_transform([question for question, _ in rows])
            with warnings.catch_warnings():
                # An unconverged fit is judged on the validation split like any other.
                warnings.simplefilter("ignore", ConvergenceWarning)
                # So is one with nearly as many answers as questions.
                warnings.filterwarnings(
                    "ignore", message="The number of unique classes", category=UserWarning
                )
                self._model.fit(
                    matrix, [answer for _, answer in rows], sample_weight=[pairs[row] for row in rows]
                )

    def predict(self, questions: Sequence[str]) -> list[str]:
        if self._only is not None:
            return [self._only] * len(questions)
        matrix = self._vectors.transform([normalise(question) for question in questions])
        return [str(answer) for answer in self._model.predict(matrix)]


def fit(train: Turns, validation: Turns) -> Blind:
    """The better of the two classifiers on `validation` (exact match); ties go to the first.

    Args:
        train: At least one (question, answer) pair.
        validation: May be empty.
    """
    candidates: list[Blind] = [MostFrequent(train), Regression(train)]
    return max(candidates, key=lambda model: accuracy(model, validation))


def accuracy(model: Blind, turns: Turns) -> float:
    """Share of exact matches; 0 without turns."""
    if not turns:
        return 0.0
    predicted = model.predict([question for question, _ in turns])
    return float(np.mean([is_correct(p, answer) for p, (_, answer) in zip(predicted, turns, strict=True)]))


def answers(dataset: Dataset, test: Iterable[Sample], cache: Path) -> dict[str, dict[str, str]]:
    """Category → question → what the baseline answers, for every question of `test`.

    Fitted once per dataset: kept in `cache` under the dataset's digest and the hash of this module. A
    category without training samples has no answers.
    """
    path = cache / f"{dataset.digest[:16]}-{code_hash(Path(__file__).read_text())[:16]}.json"
    if path.is_file():
        found: dict[str, dict[str, str]] = json.loads(path.read_text())
        return found
    train, validation = (_by_category(read_samples(dataset, split)) for split in ("train", "validation"))
    wanted = _by_category(test)
    result: dict[str, dict[str, str]] = {}
    for category in sorted(wanted.keys() & train.keys()):
        questions = sorted({question for question, _ in wanted[category]})
        model = fit(train[category], validation.get(category, []))
        result[category] = dict(zip(questions, model.predict(questions), strict=True))
    os.makedirs(cache, exist_ok=True)
    write_atomic(path, json.dumps(result, sort_keys=True))
    return result


def _by_category(samples: Iterable[Sample]) -> dict[str, list[tuple[str, str]]]:
    turns: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for sample in samples:
        turns[sample.category].extend((turn.question, turn.answer) for turn in sample.turns)
    return turns


def _most_common(tally: Counter[str]) -> str:
    """The most frequent answer; ties go by spelling, so that the order of the data does not matter."""
    return min(tally, key=lambda answer: (-tally[answer], answer))
