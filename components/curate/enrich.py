"""What is added to the samples that are left: new questions and answers, and labels with their caps."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from components.artifacts import write_atomic
from components.chat import ChatClient
from components.config import CurateConfig
from components.curate.funnel import Funnel
from components.curate.models import Features
from components.curate.originals import Original
from components.curate.plan import Planned
from components.curate.samples import Candidate, Reason, Turn
from components.curate.text import redact_turns, text_problem
from components.gates.result import GateResult


def add_annotations(
    funnel: Funnel, planned: Mapping[str, Planned], config: CurateConfig, logs: Path
) -> list[GateResult]:
    """New turns from facts, tables, OCR and a teacher, validated; samples that still have none go.

    Training samples get them; held-out ones only where they have none of their own and the config says so.
    What reads pictures reads the source's own, loaded once more: a delivered one may be too small.

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
            original=Original(planned[each.key].task, config.images) if each.picture else None,
            turns=each.turns,
            facts=each.facts,
            label=each.label,
            category=each.category,
            source=each.source,
            text=planned[each.key].source.text,
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


def balance_labels(
    funnel: Funnel, planned: Mapping[str, Planned], config: CurateConfig, features: Features, logs: Path
) -> list[GateResult]:
    """A label of the taxonomy for every sample; what is unwanted or too much of one label goes.

    Without a taxonomy labels are what the sources call them, where their text filters let that pass.

    Returns:
        The gate on the classifier's agreement with the model that it learned from, where there is one.
    """
    if config.diversity is None:
        screen_labels(funnel, planned)
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
        load_image=lambda place: _seen(kept[place], planned, config),
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
    funnel.notes["labels"] = labelling.summary()
    funnel.apply("diversity", lambda _: dropped)
    return [labelling.gate] if labelling.gate else []


def screen_labels(funnel: Funnel, planned: Mapping[str, Planned]) -> None:
    """Take away labels that the source's text filter would reject as an answer; the notes count why.

    The sample stays: its picture and its text are not what the label says. Redacted where the source asks.
    """
    dropped = Counter[str]()
    for place, each in enumerate(funnel.kept):
        if not each.label:
            continue
        wanted = planned[each.key].source.text
        short = wanted.model_copy(update={"min_chars": min(1, wanted.min_chars), "document": None})
        turns = redact_turns((Turn("label", each.label),), short)
        reason = text_problem(turns, short)
        label = turns[0].answer if reason is None else ""
        if reason is not None:
            dropped[reason.code] += 1
        if label != each.label:
            funnel.kept[place] = replace(each, label=label)
    if dropped:
        funnel.notes["labels_dropped"] = dict(sorted(dropped.items()))


def _seen(candidate: Candidate, planned: Mapping[str, Planned], config: CurateConfig) -> bytes:
    """The picture that the labeller sees: what a picture is about can be told from the delivered one too."""
    if candidate.picture is None or config.diversity is None or config.diversity.labeller is None:
        return b""
    original = Original(planned[candidate.key].task, config.images)(config.diversity.labeller.max_side)
    return candidate.picture.place.read() if isinstance(original, Reason) else original
