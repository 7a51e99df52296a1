"""A real HTTP server on loopback that can be as bad as the web: it writes whatever bytes a test asks for."""

from __future__ import annotations

import asyncio
import io
import socket
import ssl
import threading
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from PIL import Image


@dataclass(frozen=True)
class Request:
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    visit: int
    """How often the path was asked for before."""


Lookup: TypeAlias = Callable[[str, int], Awaitable[list[str]]]
Handler: TypeAlias = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


def picture(number: int = 0, kind: str = "PNG") -> bytes:
    """A small picture, another for every number."""
    image = Image.new("RGB", (24, 16), (number % 256, number // 256 % 256, 90))
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def response(body: bytes = b"", status: str = "200 OK", **headers: str) -> bytes:
    """A whole response; keywords are headers, with `_` for `-`. `Content-Length` is right unless given."""
    named = {name.replace("_", "-").lower(): value for name, value in headers.items()}
    named.setdefault("content-length", str(len(body)))
    lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode("latin-1") + body


@dataclass
class PictureServer:
    """Serves `routes`; other paths `/N.png` give picture N. Counts what it is asked."""

    routes: dict[str, bytes | Handler] = field(default_factory=dict)
    delay_s: float = 0.0
    tls: ssl.SSLContext | None = None
    visits: Counter[str] = field(default_factory=Counter)
    most_at_once: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Host as the client named it → requests under way at once, at most; `` → of all hosts."""
    log: list[tuple[float, str]] = field(default_factory=list)
    """When which path was asked for, in seconds of the server's clock."""
    port: int = 0

    def __post_init__(self) -> None:
        self._at_once: Counter[str] = Counter()
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        started.wait()

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        scheme = "https" if self.tls else "http"
        return f"{scheme}://{host}:{self.port}{path}"

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self, started: threading.Event) -> None:
        async def serve() -> None:
            self._stop = asyncio.Event()
            server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self.tls)
            self.port = server.sockets[0].getsockname()[1]
            started.set()
            await self._stop.wait()
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        self._loop.run_until_complete(serve())
        self._loop.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await self._answer(head.decode("latin-1"), writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass  # the client has gone, as it should from most of these answers
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, head: str, writer: asyncio.StreamWriter) -> None:
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        path, host = first.split(" ")[1], headers["host"].partition(":")[0]
        request = Request(path, headers, self.visits[path])
        self.visits[path] += 1
        self.log.append((self._loop.time(), path))
        for name in (host, ""):
            self._at_once[name] += 1
            self.most_at_once[name] = max(self.most_at_once[name], self._at_once[name])
        try:
            await asyncio.sleep(self.delay_s)
            answer = self.routes.get(path) or self._default(path)
            if isinstance(answer, bytes):
                writer.write(answer)
            else:
                await answer(request, writer)
        finally:
            self._at_once.subtract((host, ""))

    def _default(self, path: str) -> bytes:
        stem, _, kind = path.rpartition("/")[2].partition(".")
        if kind == "png" and stem.isdigit():
            return response(picture(int(stem)), content_type="image/png", etag=f'"{stem}"')
        return response(b"<html>not here</html>", "404 Not Found", content_type="text/html")


def answering(**addresses: list[str]) -> Lookup:
    """A resolver that knows these hosts (`_` for a dot) and no others."""

    async def lookup(host: str, _port: int) -> list[str]:
        found = addresses.get(host.replace(".", "_"))
        if found is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return found

    return lookup


def in_turn(*answers: bytes) -> Handler:
    """The first answer to the first request, the last one to all that follow."""

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(answers[min(request.visit, len(answers) - 1)])

    return answer
