"""Walk the records back from any release, model version, checkpoint or dataset to its sources."""

from __future__ import annotations

import json
from pathlib import Path

from rich.tree import Tree

from components.artifacts import Record
from components.errors import ArtifactMissing


def find_record(reference: str, workspace: Path) -> Path:
    """The record that `reference` names.

    Args:
        reference: a path (record, its directory or output), a run (`latest`, a run id), a stage and
            the start of a fingerprint or digest (`pretrain/3fa9`), or the start of a dataset version.
        workspace: where `.opsin/` and `runs/` lie.

    Raises:
        ArtifactMissing: nothing, or more than one thing, goes by that name.
    """
    path = Path(reference)
    for candidate in (path, path / "record.json", path.parent / "record.json"):
        if candidate.is_file() and candidate.name == "record.json":
            return candidate
    report = workspace / "runs" / reference / "report.json"
    if report.is_file():
        return _record_of_run(report)
    artifacts = workspace / ".opsin" / "artifacts"
    stage, _, prefix = reference.rpartition("/")
    found = [
        path for path in sorted(artifacts.glob(f"{stage or '*'}/*/record.json")) if _matches(path, prefix)
    ]
    if len(found) != 1:
        names = ", ".join(f"{p.parent.parent.name}/{p.parent.name}" for p in found[:8]) or "nothing"
        raise ArtifactMissing(
            f"'{reference}' names {names}",
            where=str(artifacts),
            fix="give a run id, `latest`, a path, STAGE/FINGERPRINT, a dataset version, or MODEL@VERSION",
        )
    return found[0]


def _record_of_run(report: Path) -> Path:
    stages = json.loads(report.read_text())["stages"]
    finished = [stage["record"] for stage in stages.values() if stage["fingerprint"]]
    if not finished:
        raise ArtifactMissing("no stage of this run finished", where=str(report), fix="run it again")
    return Path(finished[-1])


def _matches(path: Path, prefix: str) -> bool:
    record = Record.load(path)
    names = (record.fingerprint, record.artifact["digest"], str(record.artifact.get("version", "")))
    return bool(prefix) and any(name.startswith(prefix) for name in names)


def tree(path: Path) -> Tree:
    """The lineage of the record at `path` as a tree; what was already shown is not unfolded again."""
    seen: set[str] = set()
    root = Tree(_title(Record.load(path)))
    _grow(root, path, seen)
    return root


def _grow(node: Tree, path: Path, seen: set[str]) -> None:
    record = Record.load(path)
    seen.add(record.fingerprint)
    for source in record.sources:
        node.add(
            f"[cyan]source[/] {source.locator}  {source.licence}  {source.num_samples} samples  "
            f"[dim]sha256 {source.sha256[:12]}[/]"
        )
    for parent in record.parents:
        try:
            made = Record.load(Path(parent.record))
        except ArtifactMissing:
            node.add(f"[red]{parent.name}[/] {parent.digest[:12]} (its record is gone: {parent.record})")
            continue
        if made.fingerprint in seen:
            node.add(f"[dim]{parent.name}: {made.stage}/{made.fingerprint[:8]} (above)[/]")
        else:
            _grow(node.add(f"[bold]{parent.name}[/]: {_title(made)}"), Path(parent.record), seen)


def _title(record: Record) -> str:
    facts = [f"[green]{record.stage}[/]/{record.fingerprint[:8]}", record.artifact["kind"]]
    facts += [f"version {record.artifact['version']}"] if "version" in record.artifact else []
    facts += [str(record.artifact["verdict"])] if "verdict" in record.artifact else []
    facts += [f"{record.started}", f"{record.seconds:.0f} s", f"git {record.git_commit[:10]}"]
    return "  ".join(facts)
