"""The top and the foot of the report: verdict, tiles, the lifecycle as a strip, gates, lineage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

from safetensors import safe_open

from components.artifacts import Record, Source
from components.gates.result import GateResult
from components.report.files import RunFiles
from components.report.wording import count, duration, percent, size

HEADLINES: Final = {
    "promoted": ("good", "Promoted", "The candidate passed the canary and is the champion now."),
    "rolled_back": ("bad", "Rolled back", "The canary found the candidate worse; the champion stays."),
    "inconclusive": ("warn", "Inconclusive", "The canary saw too little to decide; the champion stays."),
    "partial": ("plain", "Finished early", "The run was asked to end before a release."),
    "stopped": ("bad", "Stopped", "The run ended before a release."),
}
"""Verdict → tone, headline, explanation."""


@dataclass(frozen=True)
class Headline:
    tone: str
    title: str
    text: str


@dataclass(frozen=True)
class Stop:
    """Why a run ended early, and what to do."""

    stage: str | None
    gates: tuple[GateResult, ...]
    """Blocking gates that failed in that stage."""
    error: str
    kept: str | None
    """Directory with everything the stage kept."""


@dataclass(frozen=True)
class Tile:
    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Step:
    """One box of the strip: a stage of the lifecycle with everything that belongs to it."""

    name: str
    state: str
    """`ran`, `cached`, `failed`."""
    seconds: float
    """Spent by this run."""
    worked: float | None
    """Seconds of work when it really ran (the record's), None where unfinished."""


@dataclass(frozen=True)
class Gate:
    stage: str
    result: GateResult

    @property
    def tone(self) -> str:
        return "good" if self.result.passed else "bad" if self.result.blocking else "warn"


@dataclass(frozen=True)
class Ancestor:
    """One finished stage in the lineage table."""

    name: str
    record: Record
    parents: tuple[str, ...]


def headline(files: RunFiles) -> Headline:
    return Headline(*HEADLINES[files.summary.verdict])


def stop(files: RunFiles) -> Stop | None:
    """Why the run stopped, or None if it did not."""
    if files.summary.verdict != "stopped":
        return None
    failed = files.failed()
    gates = tuple(gate for gate in failed.gates() if gate.blocking and not gate.passed) if failed else ()
    return Stop(
        stage=failed.name if failed else None,
        gates=gates,
        error=files.summary.error or "",
        kept=str(failed.directory) if failed and failed.directory.is_dir() else None,
    )


def tiles(files: RunFiles) -> list[Tile]:
    """The figures a person looks for first; those whose stage did not run are left out."""
    ran = sum(not outcome.cached for outcome in files.outcomes)
    cached = len(files.outcomes) - ran
    found = [Tile("wall time", duration(files.summary.wall_s), f"steps: {ran} ran, {cached} cached")]
    for _, record in files.of_kind("dataset")[:1]:
        version = str(record.artifact["version"])
        note = f"{record.artifact['name']}, version {version[:12]}"
        found.append(Tile("samples", count(record.artifact["num_samples"]), note))
    checkpoints = files.of_kind("checkpoint")
    main = [record for outcome, record in checkpoints if not outcome.name.startswith("proxy-")]
    if main:
        found.append(Tile("parameters", count(num_parameters(Path(main[0].artifact["uri"])))))
    found += _accuracy(files)
    sizes = quantized_sizes(files)
    if sizes:
        before, after = sizes
        found.append(Tile("weights", f"{size(before)} → {size(after)}", f"{before / after:.2f}× smaller"))
    return found


def _accuracy(files: RunFiles) -> list[Tile]:
    """The groups that the config asks something of (`evaluate.min_gain`), else the first."""
    label = released_label(files)
    outcome = files.finished(f"evaluate-{label}") if label else None
    if label is None or outcome is None:
        return []
    groups = files.summary.scores[label]
    wanted = [name for name in files.summary.config.get("evaluate", {}).get("min_gain", {}) if name in groups]
    what = "released" if files.summary.release else f"after {label}"
    blind = files.records[outcome.name].metrics
    found = []
    for group in wanted or list(groups)[:1]:
        score, without = groups[group], blind.get(f"question_only/{group}")
        beside = f"question-only {percent(without)}; " if without is not None else ""
        found.append(Tile(f"{group}, {what}", percent(score.value), f"{beside}n = {count(score.n)}"))
    return found


def released_label(files: RunFiles) -> str | None:
    """The label in `scores` of the checkpoint that was released, or that the run came to last."""
    if not files.summary.scores:
        return None
    last = list(files.summary.scores)[-1]
    selected = files.records.get("select")
    if selected is None or selected.artifact["quantized"]:
        return last
    return [label for label in files.summary.scores if label != "quantize"][-1]


def strip(files: RunFiles) -> list[Step]:
    """Every step in the order it was called."""
    return [
        Step(
            name=outcome.name,
            state="failed" if not outcome.finished else "cached" if outcome.cached else "ran",
            seconds=outcome.seconds,
            worked=files.records[outcome.name].seconds if outcome.finished else None,
        )
        for outcome in files.outcomes
    ]


RUNS = ("proxy-", "longer-", "confirm-")
"""What steps that train proxies are called."""


def boxes(steps: Sequence[Step]) -> list[Step]:
    """The strip with finished proxy runs and their mixtures in one box: what they are is in the table."""
    found: list[Step] = []
    for finished, group in groupby(steps, lambda step: _is_proxy(step) and step.state != "failed"):
        members = list(group)
        if not finished:
            found += members
            continue
        ran = any(step.state == "ran" for step in members)
        number = sum(step.name.startswith(RUNS) for step in members)
        found.append(
            Step(
                f"{number} proxy runs" if number else "mixtures",
                "ran" if ran else "cached",
                sum(step.seconds for step in members),
                None,
            )
        )
    return found


def _is_proxy(step: Step) -> bool:
    return step.name.startswith(("propose-", "shortlist-", *RUNS))


def gates(files: RunFiles) -> list[Gate]:
    """All gates, failed and blocking first, then failed, then in the order they were passed."""
    found = [Gate(outcome.name, result) for outcome in files.outcomes for result in outcome.gates()]
    return sorted(found, key=lambda gate: (gate.result.passed, gate.tone != "bad"))


def sources(files: RunFiles) -> list[Source]:
    """Every raw source behind the run, each once."""
    found = {source.sha256 + source.locator: source for r in files.records.values() for source in r.sources}
    return list(found.values())


def lineage(files: RunFiles) -> list[Ancestor]:
    """Finished stages with the names (in this run) of the stages whose outputs they took."""
    by_record = {str(outcome.record.resolve()): outcome.name for outcome in files.outcomes}
    return [
        Ancestor(
            name=name,
            record=record,
            parents=tuple(
                dict.fromkeys(
                    by_record.get(str(Path(parent.record).resolve()), parent.name)
                    for parent in record.parents
                )
            ),
        )
        for name, record in files.records.items()
    ]


def num_parameters(directory: Path) -> int:
    """Parameters of a checkpoint, from the headers of its safetensors files."""
    total = 0
    for path in sorted(directory.glob("*.safetensors")):
        with safe_open(path, framework="numpy") as tensors:
            total += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118  # it is no mapping
    return total


def quantized_sizes(files: RunFiles) -> tuple[float, float] | None:
    """Bytes of the weights before and after quantization; None where nothing was quantized."""
    record = files.records.get("quantize")
    if record is None:
        return None
    return record.metrics["bytes_before"], record.metrics["bytes_after"]
