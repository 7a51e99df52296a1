"""Download a list of URLs into a store: many at once, chunk by chunk, going on where it was killed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from components.config.urls import UrlConfig
from components.curate.sources.urls.client import Client, Lookup
from components.curate.sources.urls.store import ChunkWriter, next_number
from components.progress import Bar

OPEN_CHUNKS = 4
"""Chunks under way at once: while the slow last URLs of one are waited for, the next ones have begun."""


def download(
    urls: Sequence[str], directory: Path, config: UrlConfig, *, lookup: Lookup | None = None
) -> None:
    """Ask for every URL once and store how it ended. The caller is the only writer of `directory`.

    Args:
        urls: Each once; those that the store knows are the caller's to leave out, or to try again.

    Raises:
        SourceError: this machine cannot go on. What was finished stays.
        OSError: the disk is full, or cannot be written.
    """
    try:
        asyncio.run(_download_all(urls, directory, config, lookup))
    except BaseExceptionGroup as group:
        raise _first(group) from None


def _first(error: BaseException) -> BaseException:
    """What a task group wraps: the first of the errors that ended it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _download_all(
    urls: Sequence[str], directory: Path, config: UrlConfig, lookup: Lookup | None
) -> None:
    first, room = next_number(directory), asyncio.Semaphore(OPEN_CHUNKS)
    with Bar("download", total=len(urls), unit="pictures") as bar:
        progress = _Progress(bar)
        async with Client(config, lookup) as client, asyncio.TaskGroup() as group:
            for number, start in enumerate(range(0, len(urls), config.chunk_size), first):
                await room.acquire()
                writer = ChunkWriter(directory, number)
                task = group.create_task(
                    _download_chunk(urls[start : start + config.chunk_size], client, writer, progress)
                )
                task.add_done_callback(lambda _: room.release())


async def _download_chunk(
    urls: Sequence[str], client: Client, writer: ChunkWriter, progress: _Progress
) -> None:
    async def one(url: str) -> None:
        outcome = await client.get(url)
        writer.add(outcome)
        progress.count(ok=not outcome.code, size=len(outcome.content))

    try:
        async with asyncio.TaskGroup() as group:
            for url in urls:
                group.create_task(one(url))
        await asyncio.to_thread(writer.finish)
    except BaseException:
        writer.abandon()
        raise


class _Progress:
    """Success rate and megabytes a second, beside the bar."""

    def __init__(self, bar: Bar) -> None:
        self._bar, self._begin = bar, time.monotonic()
        self._ok, self._all, self._bytes = 0, 0, 0

    def count(self, *, ok: bool, size: int) -> None:
        self._ok, self._all, self._bytes = self._ok + ok, self._all + 1, self._bytes + size
        rate = self._bytes / 1e6 / max(time.monotonic() - self._begin, 1e-9)
        self._bar.advance(note=f"{self._ok / self._all:.0%} came, {rate:.1f} MB/s")
