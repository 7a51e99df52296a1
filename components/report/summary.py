"""What a run came to, in one frozen model: `report.json` is its dump, `report.html` shows it.

The flow hands over one `StageOutcome` per stage it called; everything else is read from the lineage
records and outputs that those stages left.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from components.artifacts import Record, Release, Scores
from components.gates.result import GateResult

Verdict: TypeAlias = Literal["promoted", "rolled_back", "inconclusive", "partial", "stopped"]
"""Of the canary; `partial`: asked to end before a release; `stopped`: a gate or an error ended the run."""

_GATES: TypeAdapter[tuple[GateResult, ...]] = TypeAdapter(tuple[GateResult, ...])


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StageOutcome(_Frozen):
    """One stage of one run, as the flow saw it. Without a record at `record`, the stage did not finish."""

    name: str
    """Unique in the run: `curate`, `proxy-3`, `pretrain`, `evaluate-pretrain`, …"""
    record: Path
    """Where record.json lies, or would lie: its directory also holds gates.json, metrics.jsonl, logs."""
    cached: bool
    seconds: float
    """Wall time that this run spent on the stage."""

    @property
    def finished(self) -> bool:
        return self.record.is_file()

    @property
    def directory(self) -> Path:
        return self.record.parent

    @property
    def output(self) -> Path:
        return self.directory / "output"

    @property
    def logs(self) -> Path:
        return self.directory / "logs"

    def gates(self) -> tuple[GateResult, ...]:
        """Every gate the stage passed through; of an unfinished stage those up to where it stopped."""
        if self.finished:
            return Record.load(self.record).gates
        path = self.directory / "gates.json"
        return _GATES.validate_json(path.read_text()) if path.is_file() else ()


class StageSummary(_Frozen):
    seconds: float
    cached: bool
    fingerprint: str | None
    """None: the stage did not finish."""
    record: str


class GateSummary(_Frozen):
    name: str
    stage: str
    passed: bool
    observed: str
    required: str


class GroupScore(_Frozen):
    metric: str
    value: float
    low: float
    high: float
    n: int


class ReleaseSummary(_Frozen):
    model: str
    version: str
    alias: str | None
    endpoint: str | None


class RunSummary(_Frozen):
    """What `report.json` holds."""

    run_id: str
    config: dict[str, Any]
    wall_s: float
    verdict: Verdict
    stages: dict[str, StageSummary]
    gates: tuple[GateSummary, ...]
    scores: dict[str, dict[str, GroupScore]]
    """Stage whose checkpoint was scored → group → score."""
    release: ReleaseSummary | None
    error: str | None = Field(None, exclude=True)
    """Why the run stopped; for the page only, the failed gate stands in `gates`."""


def build_summary(
    run_id: str,
    config: dict[str, Any],
    outcomes: Sequence[StageOutcome],
    wall_s: float,
    error: str | None,
) -> RunSummary:
    """Gather what a run's stages left, in the order they were called.

    Args:
        run_id: Name of the run's directory.
        config: The resolved config, as JSON values.
        outcomes: One per stage called, a failed one included.
        wall_s: Wall time of the whole run, seconds.
        error: Message of what ended the run early; None when nothing did.
    """
    records = {outcome.name: Record.load(outcome.record) for outcome in outcomes if outcome.finished}
    release: Release | None = None
    scores: dict[str, dict[str, GroupScore]] = {}
    for record in records.values():
        if record.artifact["kind"] == "release":
            release = Release.model_validate(record.artifact)
        elif record.artifact["kind"] == "scores":
            artifact = Scores.model_validate(record.artifact)
            scores[artifact.label] = _group_scores(artifact)
    return RunSummary(
        run_id=run_id,
        config=config,
        wall_s=round(wall_s, 2),
        verdict=_verdict(release, error),
        stages={
            outcome.name: StageSummary(
                seconds=round(outcome.seconds, 2),
                cached=outcome.cached,
                fingerprint=records[outcome.name].fingerprint if outcome.finished else None,
                record=str(outcome.record),
            )
            for outcome in outcomes
        },
        gates=tuple(
            GateSummary(stage=outcome.name, **gate.model_dump(include=_GATE_FIELDS))
            for outcome in outcomes
            for gate in outcome.gates()
        ),
        scores=scores,
        release=ReleaseSummary(**release.model_dump(include=_RELEASE_FIELDS)) if release else None,
        error=error,
    )


_GATE_FIELDS = {"name", "passed", "observed", "required"}
_RELEASE_FIELDS = {"model", "version", "alias", "endpoint"}


def _verdict(release: Release | None, error: str | None) -> Verdict:
    if error is not None:
        return "stopped"
    return release.verdict if release else "partial"


def _group_scores(artifact: Scores) -> dict[str, GroupScore]:
    groups = json.loads((artifact.path / "scores.json").read_text())
    wanted = GroupScore.model_fields.keys()
    return {
        name: GroupScore.model_validate({key: group[key] for key in wanted}) for name, group in groups.items()
    }
