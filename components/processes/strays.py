"""Ends processes that a library starts for us, and all that those start, once this process has ended.

    with closing(Sweeper()) as sweeper:
        with sweeper.marking():
            library.start()

A guard can end a command that it starts itself. A library's processes are nobody's children when this one
is killed; they are known by a mark in the environment that each inherited. Run as a file, it is the one who
waits for that end.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

MARK = "OPSIN_STARTED_BY"
QUIET_S = 0.5
"""So long nothing marked must be found: what is about to be started is not seen the first time."""


class Sweeper:
    """Ends what was started under `marking` when `close` is called or this process dies, by any signal."""

    def __init__(self) -> None:
        self._mark = uuid.uuid4().hex
        self._waiting = subprocess.Popen(
            [sys.executable, "-I", __file__, self._mark], stdin=subprocess.PIPE, start_new_session=True
        )

    @contextmanager
    def marking(self) -> Iterator[None]:
        """Processes started meanwhile, by any thread, bear the mark."""
        # SPT_NOENV: else setproctitle, which Ray's agents call, writes zeros over the environment.
        ours = {MARK: self._mark, "SPT_NOENV": "1"}
        before = {name: os.environ.get(name) for name in ours}
        os.environ.update(ours)
        try:
            yield
        finally:
            for name, value in before.items():
                del os.environ[name]
                if value is not None:
                    os.environ[name] = value

    def close(self) -> None:
        """End what bears the mark; returns when it has gone."""
        assert self._waiting.stdin is not None
        self._waiting.stdin.close()
        self._waiting.wait()


def _sweep(mark: str) -> None:
    last = time.monotonic()
    while time.monotonic() - last < QUIET_S:
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == mark:
                    last = time.monotonic()
                    process.kill()
            except psutil.Error:
                continue  # it has ended, or is another user's
        time.sleep(0.05)


if __name__ == "__main__":
    sys.stdin.read()
    _sweep(sys.argv[1])
