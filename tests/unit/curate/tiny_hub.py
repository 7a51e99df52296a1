"""A hub of one machine: as much of the Hugging Face hub's HTTP interface as fetching a dataset takes."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """One dataset `acme/pets` at one commit, which is also `main`."""

    folder: Path
    gated: bool = False
    endpoint: str = ""
    served: list[str] = field(default_factory=list)
    """Files whose content was asked for."""

    def answer(self, method: str, path: str) -> tuple[int, dict[str, str], bytes]:
        api, _, revision = path.partition("/revision/")
        if path.startswith("/api/"):
            if api != "/api/datasets/acme/pets":
                return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
            if revision not in ("main", COMMIT):
                return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
            names = sorted(
                each.relative_to(self.folder).as_posix() for each in self.folder.rglob("*") if each.is_file()
            )
            siblings = [{"rfilename": name} for name in names]
            info = {"id": "acme/pets", "sha": COMMIT, "siblings": siblings, "private": False}
            return 200, {"Content-Type": "application/json"}, json.dumps(info).encode()
        name = path.removeprefix(f"/datasets/acme/pets/resolve/{COMMIT}/")
        if self.gated:
            return 403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "accept the terms"}, b""
        content = (self.folder / name).read_bytes()
        if method == "GET":
            self.served.append(name)
        headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
        return 200, headers, content


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, content = hub.answer(self.command, unquote(self.path.partition("?")[0]))
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
