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
from components.errors import ServerError
from components.fingerprint import ROOT
from components.processes import port_taken
from flows import server
from flows.server import prefect_server

STARTER = """
import sys, time
from pathlib import Path
from flows.server import prefect_server
with prefect_server(Path(sys.argv[1])) as url:
    print(url, flush=True)
    time.sleep(300)
"""


def test_configured_server_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://team.example/api")
    with prefect_server(tmp_path) as url:
        assert url == "http://team.example/api"
    assert os.environ["PREFECT_API_URL"] == "http://team.example/api"


def test_server_of_a_killed_run_does_not_stay(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    environment |= QUIET | {"PREFECT_HOME": str(tmp_path / "prefect")}
    with subprocess.Popen(
        [sys.executable, "-c", STARTER, str(tmp_path)],
        cwd=ROOT,
        env=environment,
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


def test_server_that_ends_at_once_is_an_error_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", "nonsense://")
    monkeypatch.setattr(server, "START_TIMEOUT_S", 60.0)
    with pytest.raises(ServerError, match="did not come up"), prefect_server(tmp_path):
        pass
    assert "PREFECT_API_URL" not in os.environ
