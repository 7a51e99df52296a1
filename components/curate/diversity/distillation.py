"""A light classifier that learns labels from a model's: logistic regression over embeddings.

Its agreement with the model is measured on samples that it did not learn from, fold by fold, against the
accuracy of always guessing the commonest label, with bootstrap intervals.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from components.config.diversity import OTHER
from components.errors import ConfigError

CONFIDENCE = 0.95
RESAMPLES = 1000


@dataclass(frozen=True)
class Agreement:
    """Of the classifier with the model, on held-out samples."""

    num_samples: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    macro_f1: float
    """Mean over labels of the harmonic mean of precision and recall."""
    macro_f1_interval: tuple[float, float]
    baseline_accuracy: float
    """Of always guessing the commonest label."""
    f1: dict[str, float]
    rare: dict[str, int]
    """Labels with too few examples to be learned, and their number: they count as `other`."""


@dataclass(frozen=True)
class Student:
    """The classifier, and how far to trust it."""

    classifier: Any
    agreement: Agreement

    def predict(self, vectors_NX: npt.NDArray[np.float32]) -> list[tuple[str, float]]:
        """Label and its probability."""
        if not len(vectors_NX):
            return []
        probabilities_NC = self.classifier.predict_proba(vectors_NX)
        best_N = probabilities_NC.argmax(1)
        names = self.classifier.classes_[best_N].tolist()
        return list(zip(names, np.round(probabilities_NC.max(1), 4).tolist(), strict=True))


def can_be_learned(labels: Sequence[str], *, folds: int) -> bool:
    """Whether two of the labels have enough examples; those that have not count together, as `other`."""
    counts = Counter(labels)
    known = Counter(OTHER if counts[label] < folds else label for label in labels)
    return sum(number >= folds for number in known.values()) >= 2


def distil(vectors_NX: npt.NDArray[np.float32], labels: Sequence[str], *, folds: int, seed: int) -> Student:
    """Learn labels from embeddings.

    Raises:
        ConfigError: fewer than two labels have `folds` examples.
    """
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from threadpoolctl import threadpool_limits

    counts = Counter(labels)
    rare = {label: count for label, count in sorted(counts.items()) if count < folds}
    known_N = np.array([OTHER if label in rare else label for label in labels])
    if 0 < (known_N == OTHER).sum() < folds:  # too few even together: they teach nothing
        rows = known_N != OTHER
        vectors_NX, known_N = vectors_NX[rows], known_N[rows]
    if len(set(known_N.tolist())) < 2:
        raise ConfigError(
            f"nothing to tell apart: of {len(labels)} labels the model gave, "
            f"{len(counts) - len(rare)} have {folds} examples or more",
            where="curate.diversity.labeller",
            fix="ask about more samples, or mend the taxonomy",
        )
    held_out = StratifiedKFold(folds, shuffle=True, random_state=seed)
    with threadpool_limits(1):  # the same sums on every machine, and quicker than threads that wait
        predicted_N = cross_val_predict(_classifier(), vectors_NX, known_N, cv=held_out)
        classifier = _classifier().fit(vectors_NX, known_N)
    return Student(classifier, measure(known_N, predicted_N, rare, seed))


def measure(
    truth_N: npt.NDArray[np.str_], predicted_N: npt.NDArray[np.str_], rare: dict[str, int], seed: int
) -> Agreement:
    """Agreement with percentile intervals over resampled samples."""
    names = sorted({*truth_N.tolist(), *predicted_N.tolist()})
    number = {name: place for place, name in enumerate(names)}
    truth_N = np.array([number[name] for name in truth_N.tolist()])
    predicted_N = np.array([number[name] for name in predicted_N.tolist()])
    drawn_RN = np.random.default_rng(seed).integers(len(truth_N), size=(RESAMPLES, len(truth_N)))
    accuracies = [float((truth_N[rows] == predicted_N[rows]).mean()) for rows in drawn_RN]
    macros = [float(np.nanmean(_f1(truth_N[rows], predicted_N[rows], len(names)))) for rows in drawn_RN]
    f1_C = _f1(truth_N, predicted_N, len(names))
    return Agreement(
        num_samples=len(truth_N),
        accuracy=float((truth_N == predicted_N).mean()),
        accuracy_interval=_interval(accuracies),
        macro_f1=float(np.nanmean(f1_C)),
        macro_f1_interval=_interval(macros),
        baseline_accuracy=float(np.bincount(truth_N).max() / len(truth_N)),
        f1={name: round(float(f1_C[place]), 4) for name, place in number.items()},
        rare=rare,
    )


def _f1(truth_N: npt.NDArray[Any], predicted_N: npt.NDArray[Any], num_labels: int) -> npt.NDArray[np.float64]:
    """F1 of each label; NaN for one that a resample neither has nor predicts."""
    confusion_CC = np.bincount(truth_N * num_labels + predicted_N, minlength=num_labels**2)
    confusion_CC = confusion_CC.reshape(num_labels, num_labels)
    size_C = confusion_CC.sum(0) + confusion_CC.sum(1)
    with np.errstate(invalid="ignore"):
        f1_C: npt.NDArray[np.float64] = 2 * np.diag(confusion_CC) / size_C
    return f1_C


def _interval(values: Sequence[float]) -> tuple[float, float]:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def _classifier() -> Any:
    from sklearn.linear_model import LogisticRegression

    # Embeddings are unit vectors: C = 10 for their small coordinates. Balanced: rare labels matter as much.
    return LogisticRegression(C=10.0, max_iter=1000, class_weight="balanced")
