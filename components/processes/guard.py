"""Watches over one server process so that it can never become an orphan. Standard library only.

    python guard.py [--grace SECONDS] [--descriptors N,...] -- COMMAND...

The one who starts a guard keeps the write end of the guard's standard input. When that closes (a normal
stop, or the starter's death by any signal) the guard ends the command and everything it has started.
Written to that pipe, `detach` makes the guard live on; SIGTERM ends it then. Should the guard itself be
killed, the kernel (PR_SET_PDEATHSIG, Linux) signals the command. Open descriptors (listening sockets) are
handed on to the command and kept by nobody else, so that they close when it ends.

It runs as a file, not as a module: importing the package around it would cost every server a second.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
DETACH = b"detach\n"
POLL_S = 0.2


class Ended(Exception):
    """The guard was asked to end by a signal."""


def guard(command: list[str], *, grace_s: float, descriptors: list[int]) -> int:
    """Run `command` until it ends or the guard is told to end it; gives its exit status."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc:
        # Orphaned grandchildren become ours, whatever session they moved to, so they can be found.
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def end_with_guard() -> None:
        if libc:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)

    def end(_number: int, _frame: FrameType | None) -> None:
        raise Ended

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=end_with_guard,
        pass_fds=descriptors,
    )
    for descriptor in descriptors:
        os.close(descriptor)
    try:
        _watch(child)
    except Ended:
        pass
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _end_tree(child, grace_s)
    return child.returncode


def _watch(child: subprocess.Popen[bytes]) -> None:
    """Return when the child has ended or the starter let go of the pipe."""
    attached = True
    while child.poll() is None:
        if not attached:
            time.sleep(POLL_S)
        elif select.select([0], [], [], POLL_S)[0]:
            received = os.read(0, 64)
            if not received:
                return
            attached = DETACH not in received


def _end_tree(child: subprocess.Popen[bytes], grace_s: float) -> None:
    """SIGTERM the command's process group, SIGKILL what is left after `grace_s`, strays included."""
    _signal_group(child.pid, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while time.monotonic() < deadline and (child.poll() is None or _descendants()):
        time.sleep(0.05)
    _signal_group(child.pid, signal.SIGKILL)
    for pid in _descendants():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    child.wait()


def _signal_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return  # the whole group has gone (macOS says: not permitted)


def _descendants() -> list[int]:
    """Living processes below this one (Linux; elsewhere the process group is all that is known)."""
    found: list[int] = []
    pending = [os.getpid()]
    while pending:
        for children in Path(f"/proc/{pending.pop()}/task").glob("*/children"):
            try:
                pids = [int(pid) for pid in children.read_text().split()]
            except OSError:
                continue  # it ended while we looked
            pending += pids
            found += [pid for pid in pids if not _is_zombie(pid)]
    return found


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def main(arguments: list[str]) -> int:
    grace_s, descriptors = 10.0, list[int]()
    if arguments[0] == "--grace":
        grace_s, arguments = float(arguments[1]), arguments[2:]
    if arguments[0] == "--descriptors":
        descriptors, arguments = [int(number) for number in arguments[1].split(",")], arguments[2:]
    assert arguments[0] == "--", "usage: guard.py [--grace SECONDS] [--descriptors N,...] -- COMMAND..."
    return guard(arguments[1:], grace_s=grace_s, descriptors=descriptors)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
