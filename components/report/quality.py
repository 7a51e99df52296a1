"""The quality sections: scores beside the question-only baseline, generations, quantization."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from markupsafe import Markup

from components.gates.result import GateResult
from components.report import plots
from components.report.canary import speeds
from components.report.files import RunFiles, picture, read_json
from components.report.overview import quantized_sizes, released_label
from components.report.plots import Dot
from components.report.summary import StageOutcome

SHOWN_PER_GROUP: Final = 8
"""Generations shown per group."""


@dataclass(frozen=True)
class ScoreRow:
    group: str
    stage: str
    released: bool
    score: Mapping[str, Any]
    """The group's entry in scores.json."""


@dataclass(frozen=True)
class ScoreSection:
    plot: Markup
    rows: tuple[ScoreRow, ...]
    released: str | None


@dataclass(frozen=True)
class Shown:
    """One held-out question with the answer of each scored checkpoint."""

    image: str | None
    question: str
    answer: str
    blind: str
    """What the question-only baseline answers."""
    predictions: Mapping[str, tuple[str, bool]]
    """Stage → (answer, correct)."""


@dataclass(frozen=True)
class SampleGroup:
    name: str
    stages: tuple[str, ...]
    shown: tuple[Shown, ...]


@dataclass(frozen=True)
class QuantizationSection:
    before: float
    after: float
    """Bytes of the weights."""
    fell_back: bool | None
    """None: the choice was not made yet."""
    test: GateResult | None
    """The paired test that made the choice."""
    groups: tuple[tuple[str, float, float], ...]
    """Group, score before, score after."""
    speeds: Mapping[str, Mapping[str, float]]
    """Arm of the canary → served times in seconds and rates; the stable arm is the champion, at a first
    release the unquantized model."""


def scores(files: RunFiles) -> ScoreSection | None:
    """Scores of every evaluated checkpoint, by group; None where nothing was evaluated."""
    tables = {
        str(record.artifact["label"]): read_json(outcome.output / "scores.json")
        for outcome, record in files.of_kind("scores")
    }
    if not tables:
        return None
    released = released_label(files)
    rows = [
        ScoreRow(group, stage, stage == released, table[group])
        for group in dict.fromkeys(group for table in tables.values() for group in table)
        for stage, table in tables.items()
        if group in table
    ]
    panels: dict[str, list[Dot]] = {}
    for row in rows:
        score, blind = row.score, row.score["question_only"]
        baseline = (blind["value"], blind["low"], blind["high"])
        dot = Dot(row.stage, score["value"], score["low"], score["high"], baseline)
        panels.setdefault(row.group, []).append(dot)
    plot = plots.dots(panels, unit="score with 95% interval", baseline="question-only baseline")
    return ScoreSection(plot, tuple(rows), released)


def samples(files: RunFiles) -> list[SampleGroup]:
    """Held-out questions with their images and what each checkpoint answered, by group."""
    groups: dict[str, dict[tuple[str, str], list[tuple[StageOutcome, str, Any]]]] = {}
    for outcome, record in files.of_kind("scores"):
        for item in read_json(outcome.logs / "samples.json") or []:
            same = groups.setdefault(item["group"], {}).setdefault((item["key"], item["question"]), [])
            same.append((outcome, str(record.artifact["label"]), item))
    stages = tuple(files.summary.scores)
    return [
        SampleGroup(name, stages, tuple(_shown(said) for said in list(questions.values())[:SHOWN_PER_GROUP]))
        for name, questions in groups.items()
    ]


def _shown(said: list[tuple[StageOutcome, str, Any]]) -> Shown:
    outcome, _, item = said[-1]
    return Shown(
        image=picture(outcome.logs / item["image"]) if item["image"] else None,
        question=item["question"],
        answer=item["answer"],
        blind=item["question_only_prediction"],
        predictions={label: (each["prediction"], each["correct"]) for _, label, each in said},
    )


def quantization(files: RunFiles) -> QuantizationSection | None:
    """Size and quality before and after; None where nothing was quantized."""
    sizes = quantized_sizes(files)
    if sizes is None:
        return None
    selected = files.records.get("select")
    test = next((gate for gate in selected.gates if gate.name == "non_inferior"), None) if selected else None
    after = files.summary.scores.get("quantize", {})
    parents = files.records["quantize"].parents
    unquantized = next((parent.record for parent in parents if parent.kind == "checkpoint"), "")
    label = next((name for name, stage in files.summary.stages.items() if stage.record == unquantized), "")
    before = files.summary.scores.get(label, {})
    return QuantizationSection(
        *sizes,
        fell_back=None if selected is None else not selected.artifact["quantized"],
        test=test,
        groups=tuple((group, before[group].value, after[group].value) for group in after if group in before),
        speeds=speeds(files),
    )
