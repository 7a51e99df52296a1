"""Deterministic WebDataset shards and the manifest: the same samples always give the same bytes.

    shards/{split}-{index:05d}.tar    <key>.png, <key>.json per sample, USTAR, no times, no owners
    manifest.parquet                  one row per sample

A shard is written beside its place and renamed when whole, so a shard that exists is finished.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.curate.filters import Rejected
from components.curate.samples import Candidate, share
from components.gates.data import COLUMNS, SPLITS
from components.progress import Bar

_COUNTS = ("index", "width", "height", "num_turns", "num_chars", "bytes")
SCHEMA = pa.schema([(name, pa.int64() if name in _COUNTS else pa.string()) for name in COLUMNS])


def write_dataset(
    candidates: Sequence[Candidate], output: Path, scratch: Path, *, samples_per_shard: int, seed: int
) -> Path:
    """Write all shards and the manifest into `output`; shards already there are kept.

    Samples are shuffled by a hash of their key, so that every shard is a fair draw of its split.

    Returns:
        Path of the manifest.
    """
    shards = _assign(candidates, samples_per_shard, seed)
    (output / "shards").mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    with Bar("write shards", total=len(shards), unit="samples") as bar:
        for name, members in shards.items():
            path = output / name
            if not path.exists():
                temporary = scratch / "shard.tar"
                write_shard(members, temporary)
                os.replace(temporary, path)
            rows += [_row(candidate, name, index) for index, candidate in enumerate(members)]
            bar.advance(units=len(members))
    manifest = output / "manifest.parquet"
    write_table(rows, SCHEMA, manifest, scratch)
    return manifest


def _assign(candidates: Sequence[Candidate], size: int, seed: int) -> dict[str, list[Candidate]]:
    """Shard path inside the dataset → its samples, in order."""
    shards: dict[str, list[Candidate]] = {}
    for split in SPLITS:
        members = sorted(
            (candidate for candidate in candidates if candidate.split == split),
            key=lambda candidate: (share(seed, "order", candidate.key), candidate.key),
        )
        for start in range(0, len(members), size):
            shards[f"shards/{split}-{start // size:05d}.tar"] = members[start : start + size]
    return shards


def write_shard(candidates: Sequence[Candidate], path: Path) -> None:
    """One tar file; USTAR headers with integer zero times carry nothing of the machine that wrote it."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for candidate in candidates:
            if candidate.png:
                _add(tar, f"{candidate.key}.png", candidate.png)
            _add(tar, f"{candidate.key}.json", encode_json(candidate))


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = len(content), 0, 0o644
    tar.addfile(info, io.BytesIO(content))


def encode_json(candidate: Candidate) -> bytes:
    """What lies beside the image: the text, and where the sample belongs."""
    content = {
        "key": candidate.key,
        "category": candidate.category,
        "group": candidate.group,
        "split": candidate.split,
        "source": candidate.source,
        "turns": [asdict(turn) for turn in candidate.turns],
    }
    return json.dumps(content, ensure_ascii=False, sort_keys=True).encode()


def _row(candidate: Candidate, shard: str, index: int) -> dict[str, Any]:
    """A manifest row; the file name of the shard is relative to `shards/`."""
    return {
        "key": candidate.key,
        "shard": shard.removeprefix("shards/"),
        "index": index,
        "split": candidate.split,
        "group": candidate.group,
        "category": candidate.category,
        "source": candidate.source,
        "source_version": candidate.source_version,
        "licence": candidate.licence,
        "original_id": candidate.original_id,
        "width": candidate.width,
        "height": candidate.height,
        "image_sha256": candidate.image_sha256,
        "phash": candidate.phash,
        "text_sha256": candidate.text_sha256,
        "num_turns": len(candidate.turns),
        "num_chars": sum(len(turn.question) + len(turn.answer) for turn in candidate.turns),
        "bytes": len(candidate.png) + len(encode_json(candidate)),
    }


def write_table(rows: Sequence[Mapping[str, Any]], schema: pa.Schema, path: Path, scratch: Path) -> None:
    """A parquet file, whole or not at all."""
    temporary = scratch / path.name
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), temporary, compression="zstd")
    os.replace(temporary, path)


def write_quarantine(rejected: Sequence[Rejected], logs: Path, scratch: Path) -> None:
    """Rejected samples, whole: `quarantine/<reason>.tar` and `quarantine.parquet` with reason codes."""
    directory = logs / "quarantine"
    directory.mkdir(parents=True, exist_ok=True)
    by_reason: dict[str, list[Candidate]] = {}
    for each in rejected:
        by_reason.setdefault(each.reason.code, []).append(each.candidate)
    rows = []
    for code, members in sorted(by_reason.items()):
        write_shard(members, directory / f"{code}.tar")
    places: Counter[str] = Counter()
    for each in rejected:
        code = each.reason.code
        row = _row(each.candidate, f"{code}.tar", places[code])
        places[code] += 1
        rows.append(row | {"reason": code, "other": each.reason.other, "evidence": each.reason.evidence})
    schema = SCHEMA
    for name in ("reason", "other", "evidence"):
        schema = schema.append(pa.field(name, pa.string()))
    write_table(rows, schema, logs / "quarantine.parquet", scratch)


def read_stored(output: Path) -> dict[str, str]:
    """Key → SHA-256 of the PNG and JSON bytes as they lie in the shards; what the gate compares."""
    stored: dict[str, str] = {}
    for path in sorted((output / "shards").glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, kind = member.name.rpartition(".")
                content = tar.extractfile(member)
                if kind == "png" and content is not None:
                    stored[key] = hashlib.sha256(content.read()).hexdigest()
    return stored
