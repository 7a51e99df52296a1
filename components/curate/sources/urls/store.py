"""Where downloads lie: chunks that are whole or not there.

    chunks/000042/images.tar       the pictures as they came; members <SHA-256 of the URL, 32 digits>.<suffix>
    chunks/000042/status.parquet   one row a URL: how it ended, and where its picture lies in the tar

A chunk is written beside its place and renamed when it is complete and on the disk: after `kill -9` it is
there or it is not. A URL that was tried again is in a later chunk, which counts.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.curate.sources.urls.outcome import Outcome
from components.curate.tarwriter import BLOCK, RECORD, header
from components.progress import console

IMAGES, STATUS = "images.tar", "status.parquet"
_NUMBERS = ("http_status", "attempts", "bytes", "offset")
SCHEMA = pa.schema(
    [
        (name, pa.int64() if name in _NUMBERS else pa.string())
        for name in (
            "url",
            "code",
            "evidence",
            "http_status",
            "attempts",
            "sha256",
            "bytes",
            "offset",
            "format",
            "final_url",
            "etag",
            "fetched_at",
        )
    ]
)
"""Only `url` and `sha256` are identity; `fetched_at` and how it went are for people."""


@dataclass(frozen=True, slots=True)
class Status:
    """How a URL ended, read back."""

    code: str
    evidence: str
    sha256: str
    path: str
    """Of the tar; empty where no picture came."""
    offset: int
    size: int


class ChunkWriter:
    """Writes one chunk as its pictures come."""

    def __init__(self, directory: Path, number: int) -> None:
        self._place = directory / f"{number:06d}"
        self._partial = directory / f".partial-{number:06d}"
        self._partial.mkdir(parents=True)
        self._tar = (self._partial / IMAGES).open("wb")
        self._rows: list[dict[str, Any]] = []

    def add(self, outcome: Outcome) -> None:
        offset, size = self._tar.tell() + BLOCK, len(outcome.content)
        if not outcome.code:
            name = hashlib.sha256(outcome.url.encode()).hexdigest()[:32]
            self._tar.write(header(f"{name}.{outcome.format}".encode(), size))
            self._tar.write(outcome.content)
            self._tar.write(bytes(-size % BLOCK))
        self._rows.append(
            {
                "url": outcome.url,
                "code": outcome.code,
                "evidence": _readable(outcome.evidence),
                "http_status": outcome.http_status,
                "attempts": outcome.attempts,
                "sha256": "" if outcome.code else hashlib.sha256(outcome.content).hexdigest(),
                "bytes": size,
                "offset": 0 if outcome.code else offset,
                "format": outcome.format,
                "final_url": outcome.final_url,
                "etag": _readable(outcome.etag),
                "fetched_at": datetime.now(UTC).isoformat(timespec="seconds"),
            }
        )

    def finish(self) -> None:
        """End the tar, write the table, wait for the disk, and put the chunk into its place."""
        end = 2 * BLOCK
        self._tar.write(bytes(end + -(self._tar.tell() + end) % RECORD))
        self._tar.flush()
        os.fsync(self._tar.fileno())
        self._tar.close()
        with (self._partial / STATUS).open("wb") as file:
            pq.write_table(pa.Table.from_pylist(self._rows, schema=SCHEMA), file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        os.rename(self._partial, self._place)
        _sync_directory(self._place.parent)

    def abandon(self) -> None:
        self._tar.close()


def _readable(text: str) -> str:
    """Headers may hold any bytes, which Python keeps as half surrogates."""
    return text.encode("utf-8", "replace").decode()


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def chunks(directory: Path) -> list[Path]:
    """Finished chunks, oldest first."""
    return sorted(path for path in directory.glob("[0-9]*") if path.is_dir())


def next_number(directory: Path) -> int:
    found = chunks(directory)
    return int(found[-1].name) + 1 if found else 0


def read_statuses(directory: Path) -> dict[str, Status]:
    """URL → how it ended last."""
    found: dict[str, Status] = {}
    columns = ["url", "code", "evidence", "sha256", "offset", "bytes"]
    for chunk in chunks(directory):
        tar = str(chunk / IMAGES)
        table = pq.read_table(chunk / STATUS, columns=columns)
        for url, code, evidence, sha256, offset, size in zip(
            *(table[name].to_pylist() for name in columns), strict=True
        ):
            found[url] = Status(code, evidence, sha256, "" if code else tar, offset, size)
    return found


@contextmanager
def only_writer(directory: Path) -> Iterator[None]:
    """Wait until nobody else writes to `directory`; remove what a killed one left unfinished."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.print(f"another process downloads into {directory}; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        for partial in directory.glob(".partial-*"):
            shutil.rmtree(partial)
        yield
