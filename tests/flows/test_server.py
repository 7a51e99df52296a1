"""Prefect's own server: used where one is configured, started where none is, never left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from components.environments import QUIET
from components.fingerprint import ROOT
from components.processes import free_ports, port_taken
from flows.server import start_prefect_server

STARTER = """
import sys, time
from pathlib import Path
from flows import server
if sys.argv[3:]:
    server.PORT = int(sys.argv[3])
server = server.start_prefect_server(Path(sys.argv[1]))
server.wait()
print(server.url, flush=True)
time.sleep(float(sys.argv[2]))
"""


def test_configured_server_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://team.example/api")
    server = start_prefect_server(tmp_path)
    server.wait()
    assert server.url == "http://team.example/api"


def test_server_of_a_killed_run_does_not_stay(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STARTER, str(tmp_path), "300"],
        cwd=ROOT,
        env=_environment(tmp_path),
        stdout=subprocess.PIPE,
        text=True,
    ) as starter:
        assert starter.stdout is not None
        url = starter.stdout.readline().strip()
        assert httpx.get(f"{url}/health", timeout=30).status_code == 200
        page = httpx.get(url.removesuffix("/api"), timeout=30, follow_redirects=True)
        assert "<html" in page.text.lower()
        starter.kill()
    port = int(url.removesuffix("/api").rpartition(":")[2])
    deadline = time.monotonic() + 30
    while port_taken(port) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not port_taken(port)


def test_servers_started_at_once_are_two_and_one_has_the_usual_port(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    starters = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        command = [sys.executable, "-c", STARTER, str(tmp_path / name), "300", str(port)]
        environment = _environment(tmp_path / name)
        starters.append(
            subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        )
    try:
        urls = [starter.stdout.readline().strip() for starter in starters if starter.stdout]
        assert len(set(urls)) == 2 and f"http://127.0.0.1:{port}/api" in urls
        filters = {"variables": {"name": {"any_": ["whose"]}}}
        for url in urls:
            made = httpx.post(f"{url}/variables/", json={"name": "whose", "value": url}, timeout=30)
            assert made.status_code == 201
        for url in urls:
            (found,) = httpx.post(f"{url}/variables/filter", json=filters, timeout=30).json()
            assert found["value"] == url
    finally:
        for starter in starters:
            starter.kill()
            starter.communicate()


def test_server_that_ends_at_once_is_an_error_with_its_log(tmp_path: Path) -> None:
    environment = _environment(tmp_path) | {"PREFECT_API_DATABASE_CONNECTION_URL": "nonsense://"}
    done = subprocess.run(
        [sys.executable, "-c", STARTER, str(tmp_path), "0"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "Prefect's server did not come up" in done.stderr
    assert "PREFECT_API_URL" in done.stderr


def _environment(workspace: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    return inherited | QUIET | {"PREFECT_HOME": str(workspace / "prefect")}
