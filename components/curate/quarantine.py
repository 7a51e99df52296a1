"""Rejected samples, whole: nothing is lost, and every one says why it was rejected.

quarantine/{reason}-{number:05d}.tar    the picture as the source holds it (or as drawn), and the JSON
quarantine.parquet                      a manifest row each, with reason, evidence and the twin
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from components.curate.engines import Engine
from components.curate.examine import SUFFIXES, UNDRAWABLE
from components.curate.funnel import Rejected
from components.curate.plan import Task
from components.curate.samples import Candidate, Place
from components.curate.shards import SCHEMA, TEXT, Delivered, encode_json, manifest_row, write_table
from components.curate.shards import write_indexed_tar as write_tar
from components.progress import Bar

PER_TAR = 1000
MAX_BYTES = 64 << 20
"""A larger picture is kept by its hash and its place in the source only."""


@dataclass(frozen=True)
class QuarantineJob:
    """One tar of rejected samples."""

    path: Path
    members: tuple[tuple[Candidate, Task], ...]


def write_quarantine(
    engine: Engine, rejected: Sequence[Rejected], tasks: Mapping[str, Task], logs: Path
) -> Path:
    """Write what was rejected into `logs`; returns the path of its table."""
    directory = logs / "quarantine"
    directory.mkdir(parents=True, exist_ok=True)
    places: Counter[str] = Counter()
    members: dict[str, list[tuple[Candidate, Task]]] = {}
    rows = []
    for each in rejected:
        code, key = each.reason.code, each.candidate.key
        number, index = divmod(places[code], PER_TAR)
        places[code] += 1
        name = f"{code}-{number:05d}.tar"
        members.setdefault(name, []).append((each.candidate, tasks[key]))
        delivered = Delivered(each.candidate, *_kept(each.candidate))
        row = manifest_row(delivered, name, index, "", len(encode_json(each.candidate)))
        rows.append(row | {"reason": code, "other": each.reason.other, "evidence": each.reason.evidence})
    jobs = [QuarantineJob(directory / name, tuple(each)) for name, each in sorted(members.items())]
    with Bar("write quarantine", total=len(jobs), unit="samples") as bar:
        for count in engine.map(write_job, jobs):
            bar.advance(units=count)
    schema = SCHEMA
    for name in ("reason", "other", "evidence"):
        schema = schema.append(pa.field(name, pa.string()))
    table = logs / "quarantine.parquet"
    write_table(rows, schema, table)
    return table


def _kept(candidate: Candidate) -> tuple[Place | None, str]:
    picture = candidate.picture
    return (picture.place, picture.format) if picture else (None, TEXT)


def write_job(job: QuarantineJob) -> int:
    """Write one tar; returns its number of samples."""
    members: list[tuple[str, bytes]] = []
    for candidate, task in job.members:
        content, suffix = _picture(candidate, task)
        if content:
            members.append((f"{candidate.key}.{suffix}", content))
        members.append((f"{candidate.key}.json", encode_json(candidate)))
    write_tar(job.path, members)
    return len(job.members)


def _picture(candidate: Candidate, task: Task) -> tuple[bytes, str]:
    """The source's own bytes, else what was drawn; nothing where there is neither."""
    if task.encoded and "failed" not in task.draft.payload:
        try:
            content = task.load()
        except UNDRAWABLE:
            return b"", ""  # it was rejected for this: the row says so
        kind = candidate.header.format if candidate.header else "bin"
        return (content, SUFFIXES.get(kind, kind)) if len(content) <= MAX_BYTES else (b"", "")
    if candidate.picture:
        return candidate.picture.place.read(), candidate.picture.format
    return b"", ""
