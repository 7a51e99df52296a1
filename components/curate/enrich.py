"""What is added to the samples that are left: new questions and answers, and labels with their caps."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from components.artifacts import write_atomic
from components.chat import ChatClient
from components.config import CurateConfig
from components.curate.funnel import Funnel
from components.curate.models import Features
from components.curate.samples import Candidate, Reason
from components.gates.result import GateResult


def add_annotations(funnel: Funnel, config: CurateConfig, logs: Path) -> list[GateResult]:
    """New turns from facts, tables, OCR and a teacher, validated; samples that still have none go.

    Training samples get them; held-out ones only where they have none of their own and the config says so.

    Returns:
        The gate on what people said of the review sample.
    """
    if config.annotate is None:
        return []
    from components.curate.annotate import AnnotationInput, annotate

    logs.mkdir(parents=True, exist_ok=True)
    held_out = config.annotate.held_out
    inputs = [
        AnnotationInput(
            key=each.key,
            image=each.picture.place.read if each.picture else None,
            turns=each.turns,
            facts=each.facts,
            label=each.label,
            category=each.category,
            source=each.source,
        )
        for each in funnel.kept
        if each.split == "train" or (held_out and not each.turns)
    ]
    annotated = annotate(
        inputs,
        config.annotate,
        cache=config.execution.cache / "annotate" / config.name,
        logs=logs,
        threads=config.execution.threads,
        seed=config.seed,
    )
    for place, each in enumerate(funnel.kept):
        new = annotated.turns(each.key)
        funnel.kept[place] = replace(
            each,
            turns=(*each.turns, *new),
            facts=each.facts | dict(annotated.facts.get(each.key, {})),
            annotated=len(new),
        )
    funnel.notes["annotation"] = annotated.summary()
    funnel.apply("annotation", _without_text)
    return [annotated.gate]


def _without_text(items: Sequence[Candidate]) -> dict[int, Reason]:
    return {place: Reason("empty_text") for place, each in enumerate(items) if not each.turns}


def balance_labels(funnel: Funnel, config: CurateConfig, features: Features, logs: Path) -> list[GateResult]:
    """A label of the taxonomy for every sample; what is unwanted or too much of one label goes.

    Returns:
        The gate on the classifier's agreement with the model that it learned from, where there is one.
    """
    if config.diversity is None:
        return []
    from components.curate.diversity.balance import measure_balance, write_balance
    from components.curate.diversity.caps import Labelled, apply_caps
    from components.curate.diversity.labelling import Unlabelled, label_samples

    labeller = config.diversity.labeller
    answers = config.execution.cache / "labels" / config.name / "answers.jsonl"
    asker = ChatClient(labeller.chat, cache=answers) if labeller else None
    known = bool(funnel.kept) and all(each.key in features for each in funnel.kept)
    kept = funnel.kept
    labelling = label_samples(
        [
            Unlabelled(each.key, "\n".join(f"{t.question} {t.answer}" for t in each.turns), each.label)
            for each in kept
        ],
        config.diversity,
        seed=config.seed,
        threads=config.execution.threads,
        asker=asker,
        load_image=lambda place: _bytes(kept[place]),
        features_ND=np.stack([features[each.key] for each in kept]) if known else None,
    )
    labelled = [
        Labelled(each.key, each.split, label.name, each.scores.get("alignment", math.nan))
        for each, label in zip(kept, labelling.labels, strict=True)
    ]
    dropped = apply_caps(labelled, config.diversity, seed=config.seed)
    write_balance(measure_balance(labelled, dropped, config.diversity), logs)
    if labelling.agreement is not None:
        write_atomic(logs / "labeller.json", json.dumps(asdict(labelling.agreement), indent=1))
    for place, label in enumerate(labelling.labels):
        funnel.kept[place] = replace(funnel.kept[place], label=label.name)
    funnel.apply("diversity", lambda _: dropped)
    return [labelling.gate] if labelling.gate else []


def _bytes(candidate: Candidate) -> bytes:
    return candidate.picture.place.read() if candidate.picture else b""
