"""Server processes under a guard: stopped with everything they started, whatever ends the starter."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from components.processes import guard

GRACE_S = 8.0
"""Seconds that a server gets between SIGTERM and SIGKILL."""


@dataclass(frozen=True)
class Handle:
    """A guard by its pid and birth time, so that a reused pid is never mistaken for it."""

    pid: int
    born: float

    def alive(self) -> bool:
        try:
            process = psutil.Process(self.pid)
            return abs(process.create_time() - self.born) < 1 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def stop(self) -> None:
        """End a detached guard and the server it watches; returns when both have gone."""
        if self.alive():
            os.kill(self.pid, signal.SIGTERM)
        deadline = time.monotonic() + GRACE_S + 5
        while self.alive() and time.monotonic() < deadline:
            time.sleep(0.05)


class Server:
    """One running server. `stop` ends it; so does the death of this process; `detach` lets it live on.

    Args:
        sockets: Handed over: the command has them under the same descriptor numbers, this process no more.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str],
        sockets: Sequence[socket.socket] = (),
    ) -> None:
        self.name, self.log = name, log
        descriptors = [each.fileno() for each in sockets]
        handed = ["--descriptors", ",".join(map(str, descriptors))] if descriptors else []
        with log.open("ab") as file:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", guard.__file__, "--grace", str(GRACE_S), *handed, "--", *command],
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,
                pass_fds=descriptors,
            )
        for each in sockets:
            each.close()
        self.handle = Handle(self._guard.pid, psutil.Process(self._guard.pid).create_time())

    def running(self) -> bool:
        return self._guard.poll() is None

    def detach(self) -> Handle:
        """Let the server outlive this process; gives what `Handle.stop` needs to end it later."""
        assert self._guard.stdin is not None
        self._guard.stdin.write(guard.DETACH)
        self._guard.stdin.close()
        self._guard.returncode = 0  # no longer ours to wait for; else Popen warns when it is collected
        return self.handle

    def release(self) -> None:
        """Begin the stop without waiting for it."""
        assert self._guard.stdin is not None
        if not self._guard.stdin.closed:
            self._guard.stdin.close()

    def stop(self) -> None:
        """End the server and everything it started; returns when they have gone."""
        self.release()
        self._guard.wait()

    def tail(self, lines: int = 12) -> str:
        """Last lines of the log, for an error message."""
        return "\n    ".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def stop_all(servers: Iterable[Server]) -> None:
    """Stop several servers side by side."""
    running = list(servers)
    for server in running:
        server.release()
    for server in running:
        server.stop()


def listen(preferred: int) -> socket.socket:
    """A socket that listens on the loopback interface, on `preferred` where that port is free.

    The port is ours from here on. One that was only found free can be another's a moment later.
    """
    for port in (preferred, 0):
        each = socket.socket()
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what a server before left in TIME_WAIT
        try:
            each.bind(("127.0.0.1", port))
            each.listen(2048)  # with SO_REUSEADDR it is here that of two only one succeeds
            return each
        except OSError as error:
            each.close()
            if error.errno != errno.EADDRINUSE or port == 0:
                raise
    raise AssertionError("unreachable")


def free_ports(number: int) -> list[int]:
    """Ports on the loopback interface that nobody listens on now."""
    sockets = [socket.socket() for _ in range(number)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


def port_taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
