"""What a run would do, and why: compares each step's identity with its last record."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.artifacts import Identity, Record
from components.errors import ArtifactMissing


@dataclass(frozen=True)
class Pending:
    """Stands for the artifact of a step that would run: its digest is not known yet."""

    step: str


@dataclass(frozen=True)
class PlannedStep:
    """One line of `opsin run --dry-run`."""

    name: str
    stage: str
    cached: bool
    why: str


def waits_for(inputs: dict[str, Any]) -> list[str]:
    """Names of the steps whose results are not known yet, in order, each once."""
    names: dict[str, None] = {}
    for value in inputs.values():
        for item in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(item, Pending):
                names[item.step] = None
    return list(names)


def last_record(runs: Path, name: str, config_name: str) -> Record | None:
    """The record of step `name` in the newest run of the same config that has one."""
    for report in sorted(runs.glob(f"{config_name}-*/report.json"), reverse=True):
        stages = json.loads(report.read_text()).get("stages", {})
        if name in stages and stages[name].get("record"):
            try:
                return Record.load(Path(stages[name]["record"]))
            except ArtifactMissing:
                continue
    return None


def explain(last: Record | None, now: Identity) -> str:
    """Which part of the fingerprint changed since `last`."""
    if last is None:
        return "never run with this config"
    before, changes = last.identity, list[str]()
    for key, old, new in _differences(before.config, now.config, now.stage):
        changes.append(f"config {key}: {old} → {new}")
    for module in sorted(before.code.keys() | now.code.keys()):
        if before.code.get(module) != now.code.get(module):
            changes.append(f"code {module}")
    for parent in sorted(before.parents.keys() | now.parents.keys()):
        if before.parents.get(parent) != now.parents.get(parent):
            changes.append(f"input {parent}")
    return "changed: " + "; ".join(changes) if changes else "its output is no longer in the workspace"


def _differences(old: Any, new: Any, path: str) -> list[tuple[str, str, str]]:
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in sorted(old.keys() | new.keys()):
            found += _differences(old.get(key), new.get(key), f"{path}.{key}")
        return found
    return [] if old == new else [(path, json.dumps(old), json.dumps(new))]
