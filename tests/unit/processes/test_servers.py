"""Servers never become orphans, whatever ends the one who started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from socket import create_connection

import psutil
import pytest

from components.processes import Handle, Server, listen, port_taken, stop_all

TREE = """
import os, subprocess, sys, time
# A child in a session of its own that ignores SIGTERM, as stubborn as a server's worker can be.
code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)"
child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
open(sys.argv[1], "w").write(f"{os.getpid()} {child.pid}")
time.sleep(300)
"""
STARTER = """
import os, sys, time
from pathlib import Path
from socket import create_connection
from components.processes import servers as processes
processes.GRACE_S = 1.0
server = processes.Server("tree", sys.argv[3:], log=Path(sys.argv[1]), environment=os.environ)
print(server.handle.pid, flush=True)
if sys.argv[2] == "detach":
    server.detach()
else:
    time.sleep(300)
"""


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("components.processes.servers.GRACE_S", 1.0)


def pids_of_tree(path: Path) -> list[int]:
    while not path.exists() or len(path.read_text().split()) < 2:
        time.sleep(0.02)
    return [int(pid) for pid in path.read_text().split()]


def gone(pids: list[int], within_s: float = 15.0) -> bool:
    deadline = time.monotonic() + within_s
    while any(_lives(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def start_tree(tmp_path: Path) -> tuple[Server, list[int]]:
    command = [sys.executable, "-c", TREE, str(tmp_path / "pids")]
    server = Server("tree", command, log=tmp_path / "log", environment=os.environ)
    return server, pids_of_tree(tmp_path / "pids")


def start_starter(tmp_path: Path, mode: str) -> tuple[subprocess.Popen[str], list[int]]:
    tree = [sys.executable, "-c", TREE, str(tmp_path / "pids")]
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(tmp_path / "log"), mode, *tree], stdout=subprocess.PIPE, text=True
    )
    assert starter.stdout is not None
    guard_pid = int(starter.stdout.readline())
    starter.stdout.close()
    return starter, [guard_pid, *pids_of_tree(tmp_path / "pids")]


def test_server_stop_ends_the_whole_tree(tmp_path: Path) -> None:
    server, pids = start_tree(tmp_path)
    assert server.running()
    stop_all([server])
    assert gone(pids, within_s=0.5)


def test_server_starter_killed_ends_the_whole_tree(tmp_path: Path) -> None:
    starter, pids = start_starter(tmp_path, "stay")
    starter.kill()
    starter.wait()
    assert gone(pids)


def test_server_guard_killed_ends_the_command(tmp_path: Path) -> None:
    server, pids = start_tree(tmp_path)
    os.kill(server.handle.pid, signal.SIGKILL)
    assert gone(pids[:1])
    for pid in filter(_lives, pids):
        os.kill(pid, signal.SIGKILL)
    server.stop()


def test_server_detached_outlives_its_starter_and_can_be_stopped(tmp_path: Path) -> None:
    starter, pids = start_starter(tmp_path, "detach")
    handle = Handle(pids[0], psutil.Process(pids[0]).create_time())
    starter.wait()
    time.sleep(0.5)
    assert all(_lives(pid) for pid in pids)
    handle.stop()
    assert gone(pids)
    assert not handle.alive()


def test_server_that_ends_by_itself_is_not_running_and_shows_its_log(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('no such model'); raise SystemExit(3)"]
    server = Server("short", command, log=tmp_path / "log", environment=os.environ)
    while server.running():
        time.sleep(0.02)
    assert server.tail() == "no such model"
    server.stop()


def test_server_inherits_its_socket_and_keeps_it_no_longer_than_it_runs(tmp_path: Path) -> None:
    answer = "import socket, sys; socket.socket(fileno=int(sys.argv[1])).accept()[0].sendall(b'mine')"
    socket = listen(0)
    port = socket.getsockname()[1]
    command = [sys.executable, "-c", answer, str(socket.fileno())]
    server = Server("one answer", command, log=tmp_path / "log", environment=os.environ, sockets=[socket])
    with create_connection(("127.0.0.1", port), timeout=30) as connection:
        assert connection.recv(4) == b"mine"
    server.stop()
    assert not port_taken(port)


def test_listen_takes_the_preferred_port_where_nobody_listens() -> None:
    with listen(0) as first:
        preferred = first.getsockname()[1]
        with listen(preferred) as second:
            assert second.getsockname()[1] not in (preferred, 0)
    with listen(preferred) as third:
        assert third.getsockname()[1] == preferred
