"""What the stages of a run left on disk, read once: records, metrics, JSON and pictures."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image

from components.artifacts import Record
from components.report.summary import RunSummary, StageOutcome

MAX_PICTURE_BYTES = 700_000
"""A larger picture goes into the page as a JPEG of at most `MAX_PICTURE_SIDE` pixels a side."""
MAX_PICTURE_SIDE = 1600


@dataclass(frozen=True)
class RunFiles:
    """The run's summary with the records behind it."""

    summary: RunSummary
    outcomes: tuple[StageOutcome, ...]
    records: dict[str, Record]
    """Stage name in this run → record, of those that finished."""

    @classmethod
    def read(cls, summary: RunSummary, outcomes: Sequence[StageOutcome]) -> RunFiles:
        records = {outcome.name: Record.load(outcome.record) for outcome in outcomes if outcome.finished}
        return cls(summary, tuple(outcomes), records)

    def finished(self, name: str) -> StageOutcome | None:
        """The outcome of stage `name`, if it was called and finished."""
        return next((outcome for outcome in self.outcomes if outcome.name == name and outcome.finished), None)

    def failed(self) -> StageOutcome | None:
        """The stage that did not finish, if any."""
        return next((outcome for outcome in self.outcomes if not outcome.finished), None)

    def of_kind(self, kind: str) -> list[tuple[StageOutcome, Record]]:
        """Finished stages that gave an artifact of `kind`, in order."""
        return [
            (outcome, self.records[outcome.name])
            for outcome in self.outcomes
            if outcome.finished and self.records[outcome.name].artifact["kind"] == kind
        ]


def read_json(path: Path) -> Any:
    """The JSON in `path`, or None where there is no such file."""
    return json.loads(path.read_text()) if path.is_file() else None


def read_metrics(directory: Path) -> list[dict[str, float]]:
    """The logged steps of a stage (`metrics.jsonl`), in order; none where it logged none."""
    path = directory / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def picture(path: Path) -> str | None:
    """A picture as a data URI, or None where there is no such file."""
    if not path.is_file():
        return None
    content, kind = path.read_bytes(), path.suffix.lstrip(".").replace("jpg", "jpeg")
    if len(content) > MAX_PICTURE_BYTES:
        with Image.open(path) as image:
            small = image.convert("RGB")
        small.thumbnail((MAX_PICTURE_SIDE, MAX_PICTURE_SIDE))
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=80)
        content, kind = buffer.getvalue(), "jpeg"
    return Markup(f"data:image/{kind};base64,{base64.b64encode(content).decode()}")
