"""Ask for one URL, safely and politely: every hop judged, every wait bounded, every end a reason code.

aiohttp rather than httpx: at 64 requests under way on one core it took 0.2 ms of processor time a request,
httpx 3 ms (its pool walks all connections for each request); aiohttp speaks HTTP/1.1 only.
"""

from __future__ import annotations

import asyncio
import errno
import random
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeAlias
from urllib.parse import urljoin

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from components.config.urls import UrlConfig
from components.curate.sources.urls.content import Body, opt_out
from components.curate.sources.urls.hosts import Host, Hosts
from components.curate.sources.urls.outcome import Failed, Outcome
from components.curate.sources.urls.safety import Policy, Refused, check_address, check_url
from components.errors import SourceError

REDIRECTS = frozenset({301, 302, 303, 307, 308})
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
PAUSING = frozenset({429, 503})
"""Answers whose `Retry-After` is meant for the whole host."""
KEEPALIVE_S = 2.0
"""Idle connections are few: lists name tens of thousands of hosts, and each is a file descriptor."""
LOOKUPS = 64
"""Name lookups at once; each is a thread that waits."""
DNS_TTL_S, DNS_CACHE = 300, 10_000
"""Judged addresses that are kept: seconds, and hosts."""
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

Lookup: TypeAlias = Callable[[str, int], Awaitable[list[str]]]
"""Host and port → addresses; raises OSError where there are none."""
AddressInfo: TypeAlias = tuple[Any, ...]
"""Family, type, protocol, canonical name, socket address: as of `socket.getaddrinfo`."""


class CheckedResolver(AbstractResolver):
    """Gives the connector addresses that were judged, and only those: the name is not looked up again."""

    def __init__(self, lookup: Lookup, policy: Policy) -> None:
        self._lookup, self._policy = lookup, policy

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        addresses = await self._lookup(host, port)
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "no address")
        if host.lower().rstrip(".") not in self._policy.private_hosts:
            for address in addresses:  # one bad address among good ones is an attack, or a broken host
                check_address(address, host)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        pass


def public_socket(address: AddressInfo) -> socket.socket:
    """A socket for a connection to a public address: the last check before the first packet leaves.

    Raises:
        PermissionError: it is none. The checks before this one leave it nothing to find.
    """
    family, kind, protocol, _, (host, *_) = address
    try:
        check_address(host, host)
    except Refused as refused:
        raise PermissionError(errno.EACCES, f"not a public address: {host}") from refused
    return socket.socket(family, kind, protocol)


@dataclass(frozen=True)
class Answer:
    """What one request gave: a picture, or where to look instead."""

    location: str = ""
    etag: str = ""
    format: str = ""
    content: bytes = b""


class Client:
    """Downloads pictures.

    async with Client(config) as client:
        outcome = await client.get(url)
    """

    def __init__(self, config: UrlConfig, lookup: Lookup | None = None) -> None:
        """
        Args:
            lookup: How names become addresses; None: the system's resolver.
        """
        self._config, self._policy = config, Policy.of(config)
        self._lookup = lookup
        self._hosts = Hosts(per_host=config.per_host, give_up_after=config.give_up_host_after)
        self._slots = asyncio.Semaphore(config.concurrency)
        self._tls = ssl.create_default_context()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Client:
        lookup = self._lookup
        if lookup is None:
            threads = ThreadPoolExecutor(LOOKUPS, thread_name_prefix="lookup")
            self._stack.callback(threads.shutdown, wait=False, cancel_futures=True)
            lookup = _system_lookup(threads)
        resolver = CheckedResolver(lookup, self._policy)
        self._public = await self._stack.enter_async_context(self._session(resolver, public_socket))
        self._trusted = await self._stack.enter_async_context(self._session(resolver, None))
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    def _session(
        self, resolver: AbstractResolver, socket_factory: Callable[[AddressInfo], socket.socket] | None
    ) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=0,  # slots are ours: they are held over the waits that hosts ask for
            resolver=resolver,
            socket_factory=socket_factory,
            keepalive_timeout=KEEPALIVE_S,
            ttl_dns_cache=DNS_TTL_S,
            dns_cache_max_size=DNS_CACHE,
            ssl=self._tls,
        )
        return aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            headers={
                "User-Agent": f"Mozilla/5.0 (compatible; {self._config.agent})",
                "Accept": "image/*",
                "Accept-Encoding": "identity",
            },
        )

    async def get(self, url: str) -> Outcome:
        """Download one picture; a failure is an outcome with its reason.

        Raises:
            SourceError: this machine cannot go on (no file descriptors, no memory).
        """
        for attempt in range(self._config.retries + 1):
            try:
                return replace(await self._follow(url), attempts=attempt + 1)
            except Refused as refused:
                return Outcome(url, refused.code, refused.evidence, attempts=attempt + 1)
            except Failed as failure:
                final = attempt == self._config.retries or not failure.transient
                if final or failure.retry_after > self._config.max_retry_after_s:
                    return Outcome(url, failure.code, failure.evidence[:300], failure.status, attempt + 1)
                delay = self._config.backoff_s * 2**attempt * random.uniform(0.5, 1.5)
                await asyncio.sleep(max(delay, failure.retry_after))
        raise AssertionError("the last attempt returns")

    async def _follow(self, url: str) -> Outcome:
        """One attempt: the URL and its redirects, each hop judged anew."""
        left, seen, where = self._config.total_timeout_s, set[URL](), url
        for _ in range(self._config.max_redirects + 1):
            target = check_url(where, self._policy)
            if target in seen:
                raise Failed("redirect_loop", str(target))
            seen.add(target)
            assert target.raw_host is not None, "checked"
            host = self._hosts.of(target.raw_host)
            async with host.turn(), self._slots:
                begin = time.monotonic()
                answer = await self._ask(target, host, max(left, 0.001))
                left -= time.monotonic() - begin
            if not answer.location:
                return Outcome(
                    url,
                    http_status=200,
                    final_url=str(target),
                    etag=answer.etag,
                    format=answer.format,
                    content=answer.content,
                )
            where = urljoin(str(target), answer.location)
        raise Failed("too_many_redirects", where)

    async def _ask(self, target: URL, host: Host, seconds: float) -> Answer:
        """One request, its errors as reasons."""
        try:
            return await self._exchange(target, host, seconds)
        except aiohttp.ClientConnectorDNSError as error:
            unknown = error.os_error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", None))
            failure = Failed("dns", str(error.os_error), transient=not unknown)
            host.missed(failure)
            raise failure from error
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError) as error:
            raise Failed("tls", str(error)) from error
        except aiohttp.ClientConnectorError as error:
            _check_machine(error.os_error)
            failure = Failed("connect", str(error.os_error), transient=True)
            host.missed(failure)
            raise failure from error
        except aiohttp.ConnectionTimeoutError as error:
            failure = Failed("timeout", "no connection in time", transient=True)
            host.missed(failure)
            raise failure from error
        except TimeoutError as error:
            what = "nothing came" if isinstance(error, aiohttp.SocketTimeoutError) else "too slow"
            raise Failed("timeout", what, transient=True) from error
        except aiohttp.ClientPayloadError as error:
            raise Failed("truncated", str(error), transient=True) from error
        except (aiohttp.ClientResponseError, aiohttp.InvalidURL, ValueError) as error:
            raise Failed("bad_response", str(error)) from error
        except aiohttp.ClientError as error:
            raise Failed("disconnected", str(error), transient=True) from error

    async def _exchange(self, target: URL, host: Host, seconds: float) -> Answer:
        config = self._config
        trusted = str(target.raw_host).lower().rstrip(".") in self._policy.private_hosts
        timeout = aiohttp.ClientTimeout(
            total=seconds, connect=config.connect_timeout_s, sock_read=config.read_timeout_s
        )
        session = self._trusted if trusted else self._public
        async with session.get(target, allow_redirects=False, timeout=timeout) as response:
            host.answered()
            directive = opt_out(response.headers.getall("X-Robots-Tag", ()), config.agent)
            if directive and config.respect_noai:
                raise Failed("noai", f"X-Robots-Tag: {directive}", status=response.status)
            if response.status in REDIRECTS:
                if not response.headers.get("Location"):
                    raise Failed("bad_response", "a redirect to nowhere", status=response.status)
                return Answer(location=response.headers["Location"])
            if response.status != 200:
                raise _refusal(response, host, config.max_retry_after_s)
            body = Body(
                encoding=response.headers.get("Content-Encoding", ""),
                declared=response.content_length,
                max_bytes=config.max_bytes,
            )
            async for piece in response.content.iter_any():
                body.feed(piece)
            content = body.finish()
            return Answer(etag=response.headers.get("ETag", ""), format=body.format, content=content)


def _refusal(response: aiohttp.ClientResponse, host: Host, patience_s: float) -> Failed:
    """A status that is no success, with the pause that its server asks for."""
    seconds = _seconds(response.headers.get("Retry-After", "")) if response.status in PAUSING else 0.0
    if 0 < seconds <= patience_s:
        host.pause(seconds)
    return Failed(
        f"http_{response.status}",
        response.reason or "",
        status=response.status,
        transient=response.status in TRANSIENT,
        retry_after=seconds,
    )


def _seconds(retry_after: str) -> float:
    """`Retry-After` (RFC 9110, section 10.2.3) in seconds; 0 where it says nothing."""
    text = retry_after.strip()
    if text.isdecimal():
        return float(text[:9])
    try:
        date = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return 0.0
    aware = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (aware - datetime.now(UTC)).total_seconds())


def _check_machine(error: OSError) -> None:
    if error.errno in EXHAUSTED:
        raise SourceError(
            f"this machine cannot open another connection: {error}",
            where="urls.concurrency",
            fix="lower it, or raise the limit of open files (`ulimit -n`)",
        ) from error


def _system_lookup(threads: ThreadPoolExecutor) -> Lookup:
    async def lookup(host: str, port: int) -> list[str]:
        found = await asyncio.get_running_loop().run_in_executor(
            threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return list(dict.fromkeys(str(address[0]) for *_, address in found))

    return lookup
