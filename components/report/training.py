"""The training section: the model, loss curves per stage and category, packing, speed, preferences."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from markupsafe import Markup

from components.report import plots
from components.report.files import RunFiles, read_metrics
from components.report.plots import Panel, Series
from components.report.summary import StageOutcome

MAX_POINTS: Final = 300
"""Longer curves are averaged down to this many points."""

CURVES: Final = (
    # title, metric (a leading or trailing * takes every metric with that ending or beginning), unit
    ("Loss", "loss", "nats per token"),
    ("Loss per category", "loss/*", "nats per token"),
    ("Validation loss", "validation_loss/*", "nats per token"),
    ("Held-out exact match", "held_out_exact/*", "share of answers"),
    ("Padding", "padding", "share of a pack"),
    ("Useful tokens", "tokens_per_s", "per second"),
    ("Utilization", "utilization", "share of a matrix multiplication"),
    ("Chosen preferred", "rewards/accuracies", "share of pairs"),
    ("Reward margin", "rewards/margins", "chosen minus rejected"),
)
FROM_ZERO: Final = frozenset(
    {"Padding", "Useful tokens", "Utilization", "Chosen preferred", "Held-out exact match"}
)
FIGURES: Final = (
    # metric of the record, label, template filter
    ("loss", "closing loss", "number"),
    ("tokens", "tokens", "count"),
    ("tokens_per_s", "tokens/s", "count"),
    ("padding", "padding", "percent"),
    ("utilization", "of a matrix multiplication", "percent"),
    ("skipped_steps", "skipped steps", "count"),
    ("best_step", "best step", "count"),
    ("pairs_trained", "pairs", "count"),
    ("preference_accuracy_before", "preference accuracy before", "percent"),
    ("preference_accuracy", "preference accuracy after", "percent"),
)


@dataclass(frozen=True)
class TrainedStage:
    name: str
    finished: bool
    figures: tuple[tuple[str, float, str], ...]
    """Label, value, template filter."""
    curves: Markup
    card: tuple[tuple[str, str], ...]
    """Name and value of what the model is; empty where the stage wrote none."""
    packing: tuple[dict[str, Any], ...]
    """What each packing strategy made of the run's own data."""


def training(files: RunFiles) -> list[TrainedStage]:
    """Every stage that logged a loss, proxy runs left out; one that failed halfway is shown too."""
    found = []
    for outcome in files.outcomes:
        if outcome.name.startswith("proxy-"):
            continue
        panels = _panels(read_metrics(outcome.directory))
        if panels:
            curves = plots.lines(panels)
            figures = _figures(files, outcome)
            card = tuple((name, value) for name, value in _read(outcome.logs / "model.json", []))
            packing = tuple(_read(outcome.logs / "packing.json", {"strategies": []})["strategies"])
            found.append(TrainedStage(outcome.name, outcome.finished, figures, curves, card, packing))
    return found


def _read(path: Path, otherwise: Any) -> Any:
    return json.loads(path.read_text()) if path.is_file() else otherwise


def _figures(files: RunFiles, outcome: StageOutcome) -> tuple[tuple[str, float, str], ...]:
    metrics = files.records[outcome.name].metrics if outcome.finished else {}
    return tuple((label, metrics[key], shown) for key, label, shown in FIGURES if key in metrics)


def _panels(logged: Sequence[dict[str, float]]) -> list[Panel]:
    keys = sorted({key for line in logged for key in line})
    panels = []
    for title, pattern, unit in CURVES:
        fixed = pattern.strip("*")
        found = fnmatch.filter(keys, pattern)
        series = [_series(logged, key, key.removeprefix(fixed).removesuffix(fixed) or title) for key in found]
        if series:
            zero = title in FROM_ZERO
            panels.append(Panel(title, series, x_label="optimizer step", unit=unit, from_zero=zero))
    return panels


def _series(logged: Sequence[dict[str, float]], key: str, name: str) -> Series:
    points = [(line["step"], line[key]) for line in logged if key in line]
    bin_size = -(-len(points) // MAX_POINTS)
    bins = [points[start : start + bin_size] for start in range(0, len(points), bin_size)]
    x = [sum(step for step, _ in each) / len(each) for each in bins]
    y = [sum(value for _, value in each) / len(each) for each in bins]
    return Series(name, x, y)
