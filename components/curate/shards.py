"""Deterministic WebDataset shards and the manifest: the same samples always give the same bytes.

    shards/{split}-{kind}-{number:05d}.tar    <key>.<kind> and <key>.json per sample (text: JSON alone)
    shards/{split}-{kind}-{number:05d}.idx    where each member lies, as NVIDIA DALI's wds2idx writes it
    manifest.parquet                          one row per sample

`kind` is the suffix of the members beside the JSON (png, jpg, webp, npy), `text` where there is none: all
samples of a shard have the same members, as readers of WebDataset expect. A sample belongs to the shard
that the hash of its key names, so a changed sample touches one shard. All shards are written anew each time:
what costs time (decoding, encoding) lies in finished chunks, and a shard of an earlier attempt may hold what
this one does not.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.curate.engines import Engine
from components.curate.samples import Candidate, Place, Turn, hash_text, share
from components.curate.tarwriter import Entry, write_index, write_tar
from components.gates.manifest import COLUMNS, SPLITS, Stored
from components.progress import Bar

TEXT = "text"
"""Kind of a sample that is its JSON alone."""
ARROW = {"string": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}
SCHEMA = pa.schema([(name, ARROW[kind]) for name, kind in COLUMNS.items()])


@dataclass(frozen=True)
class Delivered:
    """A kept sample with the bytes that are delivered."""

    candidate: Candidate
    place: Place | None
    """Of the picture or its features; None where the sample is text alone."""
    kind: str


@dataclass(frozen=True)
class ShardJob:
    """One shard to write."""

    path: Path
    members: tuple[tuple[str, str, Place | None, bytes], ...]
    """Key, kind, place of the picture, JSON."""


def write_dataset(
    engine: Engine, samples: Sequence[Delivered], output: Path, *, samples_per_shard: int, seed: int
) -> Path:
    """Write all shards and the manifest into `output`, and nothing else: what lay there is removed.

    Returns:
        Path of the manifest.
    """
    shards = assign(samples, samples_per_shard, seed)
    shutil.rmtree(output, ignore_errors=True)
    (output / "shards").mkdir(parents=True)
    jobs = [
        ShardJob(
            output / "shards" / f"{name}.tar",
            tuple(
                (each.candidate.key, each.kind, each.place, encode_json(each.candidate)) for each in members
            ),
        )
        for name, members in shards.items()
    ]
    hashes: dict[str, str] = {}
    with Bar("write shards", total=len(jobs), unit="samples") as bar:
        for written in engine.map(write_shard, jobs):
            hashes |= written
            bar.advance(units=len(written))
    rows = [
        manifest_row(each, f"{name}.tar", index, hashes[each.candidate.key], len(text))
        for (name, members), job in zip(shards.items(), jobs, strict=True)
        for index, (each, (*_, text)) in enumerate(zip(members, job.members, strict=True))
    ]
    manifest = output / "manifest.parquet"
    write_table(rows, SCHEMA, manifest)
    return manifest


def assign(samples: Sequence[Delivered], size: int, seed: int) -> dict[str, list[Delivered]]:
    """Shard name → its samples, in order.

    The number of shards is a power of two: when it doubles, each shard falls into two.
    """
    groups: dict[tuple[str, str], list[tuple[float, str, Delivered]]] = {}
    for each in samples:
        key = each.candidate.key
        groups.setdefault((each.candidate.split, each.kind), []).append(
            (share(seed, "shard", key), key, each)
        )
    shards: dict[str, list[Delivered]] = {}
    for split, kind in sorted(groups, key=lambda group: (SPLITS.index(group[0]), group[1])):
        members = sorted(groups[split, kind], key=lambda member: member[:2])
        number = 1
        while number * size < len(members):
            number *= 2
        for place, _, each in members:
            shards.setdefault(f"{split}-{kind}-{int(place * number):05d}", []).append(each)
    return shards


def write_shard(job: ShardJob) -> dict[str, str]:
    """Write one shard and its index; key → SHA-256 of the delivered picture."""
    hashes: dict[str, str] = {}
    members: list[tuple[str, bytes]] = []
    for key, kind, place, text in job.members:
        content = place.read() if place else b""
        hashes[key] = hashlib.sha256(content).hexdigest() if place else ""
        if place:
            members.append((f"{key}.{kind}", content))
        members.append((f"{key}.json", text))
    write_indexed_tar(job.path, members)
    return hashes


def write_indexed_tar(path: Path, members: Sequence[tuple[str, bytes]]) -> None:
    """A tar with its index beside it; the tar is renamed into place last."""
    temporary = path.with_suffix(f".{os.getpid()}.part")
    entries = write_tar(temporary, members)
    samples: dict[str, list[Entry]] = {}
    for entry in entries:
        samples.setdefault(entry.name.partition(".")[0], []).append(entry)
    index = path.with_suffix(f".{os.getpid()}.idx.part")
    write_index(index, list(samples.values()))
    os.replace(index, path.with_suffix(".idx"))
    os.replace(temporary, path)


def encode_json(candidate: Candidate) -> bytes:
    """What lies beside the image: the text, and where the sample belongs."""
    content = {
        "key": candidate.key,
        "category": candidate.category,
        "group": candidate.group,
        "split": candidate.split,
        "source": candidate.source,
        "turns": [{"question": turn.question, "answer": turn.answer} for turn in candidate.turns],
    }
    return json.dumps(content, ensure_ascii=False, sort_keys=True).encode("utf-8", "replace")


def manifest_row(sample: Delivered, shard: str, index: int, sha256: str, json_bytes: int) -> dict[str, Any]:
    """A manifest row: provenance, licence, and everything that was measured.

    Args:
        shard: File name of its tar.
        index: Its place there.
        sha256: Over the delivered picture; empty for text.
        json_bytes: Size of the JSON beside it.
    """
    each = sample.candidate
    picture, header = each.picture, each.header
    return {
        "key": each.key,
        "shard": shard,
        "index": index,
        "split": each.split,
        "group": each.group,
        "category": each.category,
        "label": each.label,
        "source": each.source,
        "source_version": each.source_version,
        "licence": each.licence,
        "original_id": each.original_id,
        "kind": sample.kind,
        "width": picture.width if picture else 0,
        "height": picture.height if picture else 0,
        "source_format": header.format if header else "",
        "source_width": header.width if header else 0,
        "source_height": header.height if header else 0,
        "source_bytes": header.num_bytes if header else 0,
        "source_sha256": header.sha256 if header else "",
        "misnamed": bool(header and header.misnamed),
        "image_sha256": each.image_sha256,
        "phash": each.phash,
        "blur": picture.blur if picture else None,
        "nsfw": each.scores.get("nsfw"),
        "alignment": each.scores.get("alignment"),
        "text_sha256": each.text_sha256,
        "num_turns": len(each.turns),
        "num_annotated": each.annotated,
        "num_chars": sum(len(turn.question) + len(turn.answer) for turn in each.turns),
        "num_words": sum(len(turn.question.split()) + len(turn.answer.split()) for turn in each.turns),
        "sha256": sha256,
        "bytes": (sample.place.size if sample.place else 0) + json_bytes,
    }


def write_table(rows: Sequence[Mapping[str, Any]], schema: pa.Schema, path: Path) -> None:
    """A parquet file, whole or not at all."""
    temporary = path.with_suffix(f".{os.getpid()}.part")
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), temporary, compression="zstd")
    os.replace(temporary, path)


def read_stored(engine: Engine, output: Path) -> dict[str, Stored]:
    """Key → what lies in the shards for it; what the gate compares with the manifest."""
    stored: dict[str, Stored] = {}
    for samples in engine.map(read_shard, sorted((output / "shards").glob("*.tar"))):
        stored |= samples
    return stored


def read_shard(path: Path) -> dict[str, Stored]:
    """Digests of every sample of a shard, read by the shard's index."""
    stored: dict[str, Stored] = {}
    with path.open("rb") as file:
        for line in path.with_suffix(".idx").read_text().splitlines()[1:]:
            fields = line.split(" ")
            sha256 = text_sha256 = ""
            for kind, offset, size, _ in zip(*(fields[place::4] for place in range(4)), strict=True):
                file.seek(int(offset))
                content = file.read(int(size))
                if kind == "json":
                    turns = json.loads(content)["turns"]
                    text_sha256 = hash_text(tuple(Turn(each["question"], each["answer"]) for each in turns))
                else:
                    sha256 = hashlib.sha256(content).hexdigest()
            stored[fields[3].partition(".")[0]] = Stored(sha256, text_sha256)
    return stored
