"""The gateway: a real Caddy in front of two small upstreams."""

from __future__ import annotations

import socketserver
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from components.deploy.gateway import ARM_HEADER, Gateway, Upstream, weights
from components.processes import free_ports


@contextmanager
def upstream(*, drops: bool = False) -> Iterator[str]:
    """An HTTP server that answers every POST with its body, or drops the connection."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if drops:
                self.close_connection = True
                return
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server: socketserver.BaseServer = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def gateway(logs: Path, stable: str, canary: str) -> Iterator[Gateway]:
    started = Gateway([Upstream("stable", stable), Upstream("canary", canary)], logs)
    try:
        yield started
    finally:
        started.server.stop()


def ask(to: Gateway, number: int) -> Counter[str]:
    """Arms that answered `number` requests without cookies; every one must be answered."""
    arms: Counter[str] = Counter()
    for _ in range(number):
        answer = httpx.post(f"{to.endpoint}/chat", content=b"hello")
        assert (answer.status_code, answer.content) == (200, b"hello")
        arms[answer.headers[ARM_HEADER]] += 1
    return arms


def test_weights_are_small_and_keep_the_ratio() -> None:
    assert weights([0.9, 0.1]) == [9, 1]
    assert weights([0.4, 0.6]) == [2, 3]
    assert weights([1.0]) == [1]
    assert weights([0.99, 0.01]) == [99, 1]


def test_gateway_splits_by_weight_and_moves_port(tmp_path: Path) -> None:
    with upstream() as stable, upstream() as canary, gateway(tmp_path, stable, canary) as started:
        assert ask(started, 10) == {"stable": 10}
        started.split({"stable": 0.7, "canary": 0.3})
        assert ask(started, 40) == {"stable": 28, "canary": 12}
        started.split({"stable": 1.0})
        assert ask(started, 10) == {"stable": 10}
        started.listen(free_ports(1)[0])
        assert ask(started, 3) == {"stable": 3}


def test_gateway_sticky_client_leaves_an_arm_that_was_taken_out(tmp_path: Path) -> None:
    with (
        upstream() as stable,
        upstream() as canary,
        gateway(tmp_path, stable, canary) as started,
        httpx.Client() as client,
    ):
        started.split({"stable": 0.01, "canary": 0.99})
        arms = {client.post(f"{started.endpoint}/x", content=b"a").headers[ARM_HEADER] for _ in range(5)}
        assert len(arms) == 1
        started.split({"stable": 1.0})
        assert client.post(f"{started.endpoint}/x", content=b"a").headers[ARM_HEADER] == "stable"


@pytest.mark.parametrize("dead", [True, False], ids=["refuses", "drops"])
def test_gateway_canary_that_cannot_answer_never_shows(tmp_path: Path, dead: bool) -> None:
    with (
        upstream() as stable,
        upstream(drops=True) as dropping,
        gateway(tmp_path, stable, "127.0.0.1:9" if dead else dropping) as started,
    ):
        started.split({"stable": 0.4, "canary": 0.6})
        assert ask(started, 20) == {"stable": 20}
