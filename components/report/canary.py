"""The canary section: traffic weights and what each arm showed, step by step.

Reads `logs/canary.json` of the deploy stage:

    {"reason": "why this verdict", "requests": 300, "unanswered": 0,
     "steps": [{"weight": 0.1, "arms": {"stable": {"n": 90, "errors": 0, "accuracy": 0.8, "ttft_s": 0.1},
                                        "canary": {...}}, "looks": [...]}, ...]}

Every number of an arm is shown; those in `PLOTTED` over the steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from markupsafe import Markup

from components.report import plots
from components.report.files import RunFiles, read_json
from components.report.plots import Panel, Series

PLOTTED: Final = (
    # metric of an arm, title, unit
    ("accuracy", "Correct answers", "share of requests"),
    ("ttft_s", "Time to first token, median", "seconds"),
    ("errors", "Errors", "requests"),
)


@dataclass(frozen=True)
class Row:
    step: int
    weight: float
    arm: str
    values: Mapping[str, float | None]


@dataclass(frozen=True)
class CanarySection:
    verdict: str
    reason: str
    requests: int
    unanswered: int
    plot: Markup | None
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def canary(files: RunFiles) -> CanarySection | None:
    """The deploy stage's timeline; None where it left none."""
    outcome = next((each for each in files.outcomes if each.name == "deploy"), None)
    timeline = read_json(outcome.logs / "canary.json") if outcome else None
    if outcome is None or timeline is None:
        return None
    rows = _rows(timeline)
    return CanarySection(
        verdict=files.summary.verdict.replace("_", " "),
        reason=timeline["reason"],
        requests=timeline["requests"],
        unanswered=timeline["unanswered"],
        plot=_plot(rows),
        columns=tuple(dict.fromkeys(key for row in rows for key in row.values)),
        rows=rows,
    )


def speeds(files: RunFiles) -> dict[str, dict[str, float]]:
    """Arm → served times in seconds, of the last step that it served in."""
    outcome = next((each for each in files.outcomes if each.name == "deploy"), None)
    timeline = read_json(outcome.logs / "canary.json") if outcome else None
    found: dict[str, dict[str, float]] = {}
    for row in _rows(timeline) if timeline else ():
        timed = {key: value for key, value in row.values.items() if value is not None and key.endswith("_s")}
        if timed:
            found[row.arm] = timed
    return found


def _rows(timeline: Any) -> tuple[Row, ...]:
    return tuple(
        Row(number, step["weight"], arm, _numbers(values))
        for number, step in enumerate(timeline["steps"], 1)
        for arm, values in step["arms"].items()
    )


def _numbers(values: Mapping[str, Any]) -> dict[str, float | None]:
    return {key: value for key, value in values.items() if value is None or isinstance(value, int | float)}


def _plot(rows: tuple[Row, ...]) -> Markup | None:
    if not rows:
        return None
    weights = {row.step: row.weight for row in rows}
    share = Series("canary", list(weights), list(weights.values()))
    panels = [Panel("Canary's share of traffic", [share], "step", "share", steps=True, from_zero=True)]
    for metric, title, unit in PLOTTED:
        series = [_arm(rows, arm, metric) for arm in dict.fromkeys(row.arm for row in rows)]
        series = [each for each in series if each.x]
        if series:
            panels.append(Panel(title, series, "step", unit, from_zero=True))
    return plots.lines(panels)


def _arm(rows: tuple[Row, ...], arm: str, metric: str) -> Series:
    points = [
        (row.step, row.values[metric])
        for row in rows
        if row.arm == arm and row.values.get(metric) is not None
    ]
    return Series(arm, [step for step, _ in points], [float(value or 0) for _, value in points])
