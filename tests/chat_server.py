"""A small server that speaks the OpenAI chat API over real HTTP, for tests of what asks it.

What it answers is a function of the request, so that tests can make it fail as they need.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PROMPT_TOKENS, COMPLETION_TOKENS = 100, 20


@dataclass(frozen=True)
class Said:
    """What the server answers to one request."""

    text: str = ""
    status: int = 200
    finish_reason: str = "stop"
    headers: dict[str, str] = field(default_factory=dict)
    refusal: str | None = None
    raw: str = ""
    """The whole body in place of a completion."""
    silent: bool = False
    """Never answer; until the server stops."""
    delay_s: float = 0.0


Brain = Callable[[dict[str, Any]], Said]


@dataclass
class ChatServer:
    """A running server and what it saw."""

    base_url: str
    brain: Brain
    seen: list[dict[str, Any]] = field(default_factory=list)
    """Bodies in the order in which they came."""
    times: list[float] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    most_at_once: int = 0
    num_completed: int = 0
    """Completions sent: what a provider charges for."""
    _at_once: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopped: threading.Event = field(default_factory=threading.Event)

    def prompts(self) -> list[str]:
        """The text of each request's last message."""
        return [prompt_of(body) for body in self.seen]


def prompt_of(body: dict[str, Any]) -> str:
    """The text of the last message."""
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else next(p["text"] for p in content if p["type"] == "text")


@contextmanager
def serve(brain: Brain) -> Iterator[ChatServer]:
    """Serve on a free loopback port until the block ends."""
    server = ChatServer("", brain)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            assert self.path == "/v1/chat/completions"
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with server._lock:
                server.seen.append(body)
                server.times.append(time.monotonic())
                server.headers.append({name.lower(): value for name, value in self.headers.items()})
                server._at_once += 1
                server.most_at_once = max(server.most_at_once, server._at_once)
            try:
                said = server.brain(body)
                if said.silent:
                    server._stopped.wait()
                    self.close_connection = True
                    return
                time.sleep(said.delay_s)
            finally:
                with server._lock:
                    server._at_once -= 1
                    server.num_completed += not said.silent and said.status == 200
            content = (said.raw or json.dumps(_completion(said))).encode()
            self.send_response(said.status)
            for name, value in said.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # clients that time out or are killed hang up, as they should

    http = Server(("127.0.0.1", 0), Handler)
    server.base_url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    thread = threading.Thread(target=http.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server._stopped.set()
        http.shutdown()
        thread.join()
        http.server_close()


def _completion(said: Said) -> dict[str, Any]:
    if said.status != 200:
        return {"error": {"message": said.text}}
    message = {"role": "assistant", "content": said.text, "refusal": said.refusal}
    return {
        "id": "x",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": said.finish_reason}],
        "usage": {
            "prompt_tokens": PROMPT_TOKENS,
            "completion_tokens": COMPLETION_TOKENS,
            "total_tokens": PROMPT_TOKENS + COMPLETION_TOKENS,
        },
    }
