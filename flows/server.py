"""Prefect's server for a run on one machine: its database and UI in the workspace, gone when the run is.

Prefect starts a server of its own where none is configured, but a `kill -9` of the run leaves that one
behind. This one is under a guard.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

from components.errors import ServerError
from components.processes import Server, listen

PORT = 4200
"""Prefect's usual port; a free one is taken when it is in use."""
START_TIMEOUT_S = 120.0
SERVE = """
import socket, sys, uvicorn
application = "prefect.server.api.server:create_app"
config = uvicorn.Config(application, factory=True, lifespan="on", log_level="error")
uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(sys.argv[1]))])
"""
"""Not `uvicorn --fd`: that takes the socket for a Unix one, and leaves TCP_NODELAY off."""


@dataclass(frozen=True)
class PrefectServer:
    """A Prefect API, perhaps still coming up."""

    url: str
    process: Server | None = None
    """None where it was configured and is not ours."""

    def wait(self) -> None:
        """Return when it answers.

        Raises:
            ServerError: our own server did not come up.
        """
        if self.process is not None:
            _wait(self.process, self.url)


def start_prefect_server(home: Path) -> PrefectServer:
    """The configured Prefect API, or a server that ends with this process.

    Call it before prefect is first imported: the address is handed over in `PREFECT_API_URL`, and prefect
    sends its last logs from exit handlers, which must run before the one that stops the server. The
    imports may go on while it comes up; then call `wait`.

    Args:
        home: The workspace's `.opsin` directory.
    """
    configured = os.environ.get("PREFECT_API_URL")
    if configured:
        return PrefectServer(configured)
    assert "prefect" not in sys.modules, "the server must be known before prefect is imported"
    # Listening before the server is started: who answers on this port can be no other run's server.
    listening = listen(PORT)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/api"
    server = Server(
        "prefect",
        [sys.executable, "-c", SERVE, str(listening.fileno())],
        log=home / "prefect-server.log",
        environment=os.environ | {"PREFECT__SERVER_FINAL": "1", "PREFECT_UI_API_URL": url},
        sockets=[listening],
    )
    atexit.register(server.stop)
    os.environ["PREFECT_API_URL"] = url
    return PrefectServer(url, server)


def _wait(server: Server, url: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and server.running():
        try:
            if httpx.get(f"{url}/health", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass  # nobody accepts yet
        time.sleep(0.05)
    raise ServerError(
        f"Prefect's server did not come up:\n    {server.tail()}",
        where=str(server.log),
        fix="read its log; or point PREFECT_API_URL to a server that runs",
    )
