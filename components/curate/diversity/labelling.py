"""A label for every sample: the source's own, a model's, or a classifier's that learned from the model.

labelling = label_samples(samples, config, asker=ChatClient(config.labeller.chat, cache=...), ...)
run.gate(labelling.gate)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from components.chat import ChatAnswer, ChatRequest
from components.config.diversity import OTHER, DiversityConfig, LabellerConfig
from components.curate.diversity.distillation import Agreement, can_be_learned, distil
from components.curate.samples import Reason, share
from components.curate.scorers.text_embeddings import embed_texts
from components.gates.result import GateResult

SYSTEM = (
    "You sort samples of an image-text dataset by what they show. Choose the one label that fits best; "
    "choose an `other` only where none fits."
)
MAX_CHARS = 2000
"""Characters of a sample's text that the model is shown."""
BATCH = 128
"""Requests that are held in memory, with their pictures, at once."""


class Asker(Protocol):
    """What is needed of a `ChatClient`."""

    def ask_many(
        self, requests: Sequence[ChatRequest], title: str = ...
    ) -> Sequence[ChatAnswer | Reason]: ...


@dataclass(frozen=True)
class Unlabelled:
    """What a label is chosen from."""

    key: str
    text: str
    source_label: str = ""


@dataclass(frozen=True)
class Label:
    """What a sample is about, who says so, and how sure that is."""

    name: str
    origin: Literal["source", "model", "classifier", "none"]
    """`none`: nobody was asked, or the classifier was not sure enough."""
    confidence: float = 1.0


@dataclass(frozen=True)
class Labelling:
    """A label for every sample, and what the classifier is worth."""

    labels: tuple[Label, ...]
    gate: GateResult | None = None
    """Agreement of the classifier with the model; None where there was nothing left for a classifier."""
    agreement: Agreement | None = None
    failures: Mapping[str, int] = field(default_factory=dict)
    """Reason code → requests that the model gave no label for."""

    def summary(self) -> dict[str, Any]:
        """For the report: who gave the labels, and what the model gave none for."""
        origins = Counter(label.origin for label in self.labels)
        return {"origins": dict(sorted(origins.items())), "failures": dict(sorted(self.failures.items()))}


def label_samples(
    samples: Sequence[Unlabelled],
    config: DiversityConfig,
    *,
    seed: int,
    threads: int,
    asker: Asker | None = None,
    load_image: Callable[[int], bytes] | None = None,
    features_ND: npt.NDArray[np.float32] | None = None,
) -> Labelling:
    """A label for every sample, in their order.

    Where the model was asked about every sample there is a classifier only for those that it gave no label
    for, and where the labels are too few to learn from, these are `other`.

    Args:
        asker: The model of `config.labeller`; asked about a seeded choice of the samples that their source
            has no label for.
        load_image: Position → encoded picture, for the model to see.
        features_ND: Image embeddings of all samples, for the classifier; its texts' embeddings suffice.

    Raises:
        ConfigError: the model's labels are too few or all the same, and were to be learned from.
    """
    labels = [_own_label(each.source_label, config.source_labels) for each in samples]
    pending = [place for place, label in enumerate(labels) if label is None]
    labeller = config.labeller
    if labeller is None or asker is None or not pending:
        return Labelling(tuple(label or Label(OTHER, "none") for label in labels))

    asked = _choose(samples, pending, labeller, seed)
    given, failures = _ask(samples, asked, config, labeller, asker, load_image)
    for place, name in given.items():
        labels[place] = Label(name, "model")
    complete = len(asked) == len(pending) and not can_be_learned(list(given.values()), folds=labeller.folds)
    if complete or len(given) == len(pending):
        done = tuple(label or Label(OTHER, "none") for label in labels)
        return Labelling(done, failures=failures)
    vectors_PX = embed_texts([samples[place].text for place in pending], threads=threads)
    if features_ND is not None:
        vectors_PX = np.hstack([vectors_PX, _scaled(features_ND[pending])])
    row = {place: number for number, place in enumerate(pending)}
    taught = sorted(given)
    student = distil(
        vectors_PX[[row[place] for place in taught]],
        [given[place] for place in taught],
        folds=labeller.folds,
        seed=seed,
    )
    predicted = student.predict(vectors_PX)
    for place in (place for place in pending if place not in given):
        name, confidence = predicted[row[place]]
        sure = confidence >= labeller.min_confidence
        labels[place] = Label(name if sure else OTHER, "classifier" if sure else "none", confidence)
    done = tuple(label for label in labels if label is not None)
    return Labelling(done, judge_agreement(student.agreement, labeller), student.agreement, failures)


def judge_agreement(agreement: Agreement, config: LabellerConfig) -> GateResult:
    """The gate on what the classifier learned."""
    low, high = agreement.macro_f1_interval
    return GateResult(
        name="labeller_agreement",
        passed=agreement.macro_f1 >= config.min_macro_f1,
        observed=f"macro-F1 {agreement.macro_f1:.3f} [{low:.3f}, {high:.3f}] on held-out labels",
        required=f"at least {config.min_macro_f1:g}",
        fix="ask the model about more samples (`samples`), or take labels that are easier to tell apart",
        evidence={
            "samples": agreement.num_samples,
            "labels": len(agreement.f1),
            "accuracy": agreement.accuracy,
            "accuracy_of_the_commonest_label": agreement.baseline_accuracy,
        },
    )


def _own_label(source_label: str, table: Mapping[str, str]) -> Label | None:
    """The longest pattern that fits the source's label decides."""
    fitting = [pattern for pattern in table if source_label and fnmatchcase(source_label, pattern)]
    if not fitting:
        return None
    return Label(table[max(fitting, key=lambda pattern: (len(pattern), pattern))], "source")


def _choose(
    samples: Sequence[Unlabelled], pending: Sequence[int], labeller: LabellerConfig, seed: int
) -> list[int]:
    ranked = sorted(pending, key=lambda place: share(seed, "labeller", samples[place].key))
    return sorted(ranked[: labeller.samples])


def _ask(
    samples: Sequence[Unlabelled],
    asked: Sequence[int],
    config: DiversityConfig,
    labeller: LabellerConfig,
    asker: Asker,
    load_image: Callable[[int], bytes] | None,
) -> tuple[dict[int, str], dict[str, int]]:
    """Position → label where the model gave one; reason codes of the others, counted."""
    given: dict[int, str] = {}
    failures: dict[str, int] = {}
    for begin in range(0, len(asked), BATCH):
        batch = asked[begin : begin + BATCH]
        requests = []
        for place in batch:
            image = load_image(place) if labeller.show_images and load_image is not None else b""
            requests.append(label_request(samples[place].text, image, config))
        for place, answer in zip(batch, asker.ask_many(requests, title="label samples"), strict=True):
            if isinstance(answer, Reason):
                failures[answer.code] = failures.get(answer.code, 0) + 1
            else:
                given[place] = str(answer.value["label"])
    return given, failures


def label_request(text: str, image: bytes, config: DiversityConfig) -> ChatRequest:
    """What the model is asked about one sample: it can only answer with a label of the taxonomy."""
    lines = []
    for topic in config.taxonomy:
        about = f": {topic.description}" if topic.description else ""
        lines += [f"- {label}{about}" for label in topic.labels]
    lines.append(f"- {OTHER}")
    return ChatRequest(
        prompt="Labels:\n"
        + "\n".join(lines)
        + f"\n\nText of the sample:\n{text[:MAX_CHARS]}\n\nWhich label?",
        images=(image,) if image else (),
        system=SYSTEM,
        schema={
            "type": "object",
            "properties": {"label": {"type": "string", "enum": list(config.labels)}},
            "required": ["label"],
            "additionalProperties": False,
        },
    )


def _scaled(features_NX: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Unit vectors, as the texts' are."""
    norms_N1 = np.linalg.norm(features_NX, axis=1, keepdims=True)
    scaled_NX: npt.NDArray[np.float32] = features_NX / np.maximum(norms_N1, 1e-9).astype(np.float32)
    return scaled_NX
