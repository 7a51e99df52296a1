"""How pictures are downloaded for a `urls:` source."""

from __future__ import annotations

from pydantic import Field

from components.config.base import Frozen, execution_field


class UrlConfig(Frozen):
    """What may be asked of strangers' servers, how hard, and for how long.

    Policy (which answers are taken) is identity; pace and patience are execution: what they change shows
    in the digest of the pictures that came.
    """

    agent: str = Field("opsin", pattern=r"^[A-Za-z][A-Za-z0-9._-]*$")
    """Name that servers see in `User-Agent: Mozilla/5.0 (compatible; NAME)`, and that `X-Robots-Tag` may
    address."""
    respect_noai: bool = True
    """Leave pictures whose server says `noai`, `noimageai`, `noindex` or `noimageindex` in `X-Robots-Tag`."""
    max_bytes: int = Field(16 << 20, ge=1024, le=1 << 30)
    """Of one picture, as sent and as decoded from a content encoding. `concurrency` times this is the most
    memory that pictures under way can take."""
    max_redirects: int = Field(5, ge=0, le=20)
    allow_ports: tuple[int, ...] = (80, 443)
    allow_private_hosts: tuple[str, ...] = ()
    """Hosts, by the name or the address that the URL gives, that may lie at a private, loopback or
    link-local address."""

    concurrency: int = execution_field(64, ge=1, le=4096)
    """Requests under way at once."""
    per_host: int = execution_field(4, ge=1, le=256)
    """Of them, to one host."""
    retries: int = execution_field(2, ge=0, le=10)
    """After timeouts, broken connections, 408, 425, 429 and 5xx."""
    backoff_s: float = execution_field(1.0, ge=0, le=60)
    """Before the first retry; doubles each time, with jitter."""
    max_retry_after_s: float = execution_field(60.0, ge=0, le=3600)
    """Longest `Retry-After` that is waited for; a longer one fails the picture."""
    connect_timeout_s: float = execution_field(10.0, gt=0, le=300)
    """Name lookup, TCP and TLS together."""
    read_timeout_s: float = execution_field(15.0, gt=0, le=300)
    """Between two pieces of a response."""
    total_timeout_s: float = execution_field(60.0, gt=0, le=3600)
    """Of one attempt with all its redirects; waiting for a turn does not count."""
    give_up_host_after: int = execution_field(5, ge=1, le=1000)
    """Connections in a row that a host may refuse; the rest of its pictures then fail as `host_down`."""
    chunk_size: int = execution_field(1000, ge=1, le=100_000)
    """URLs between two saves: what a killed download may lose."""
    min_success: float = execution_field(0.3, ge=0, le=1)
    """Share of the list's pictures that must have come; fewer is an error."""
