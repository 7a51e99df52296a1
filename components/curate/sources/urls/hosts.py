"""Manners towards hosts: few requests at a time, pauses that they ask for, no more knocking at dead doors."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from components.curate.sources.urls.outcome import Failed


class Host:
    """What is known of one host."""

    def __init__(self, limit: int, give_up_after: int) -> None:
        self._slots = asyncio.Semaphore(limit)
        self._give_up_after = give_up_after
        self._not_before = 0.0
        self._misses = 0
        self._down: Failed | None = None

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """One of the host's few slots, once a pause that it asked for is over.

        Raises:
            Failed: `host_down`, or `dns` for a name that does not exist.
        """
        async with self._slots:
            while (wait := self._not_before - time.monotonic()) > 0 and self._down is None:
                await asyncio.sleep(wait)
            if self._down is not None:
                raise self._down
            yield

    def pause(self, seconds: float) -> None:
        """Nobody asks this host for a while: a `Retry-After` is meant for all."""
        self._not_before = max(self._not_before, time.monotonic() + seconds)

    def answered(self) -> None:
        self._misses = 0

    def missed(self, failure: Failed) -> None:
        """A connection did not come about."""
        self._misses += 1
        if not failure.transient:  # the name does not exist
            self._down = failure
        elif self._misses >= self._give_up_after:
            self._down = Failed("host_down", f"{self._misses} times in a row: {failure.evidence}")


class Hosts:
    """All hosts of a download, by name."""

    def __init__(self, *, per_host: int, give_up_after: int) -> None:
        self._limits = per_host, give_up_after
        self._hosts: dict[str, Host] = {}

    def of(self, name: str) -> Host:
        key = name.lower().rstrip(".")
        if key not in self._hosts:
            self._hosts[key] = Host(*self._limits)
        return self._hosts[key]
