"""Which URLs and addresses may be asked: a list from strangers must not reach into the own network.

`check_url` judges what a URL says, on every hop; `check_address` judges what its name resolves to, and the
connection is made to the very address that was judged (`client.py`), so a name that answers differently the
second time gains nothing.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from yarl import URL

from components.config.urls import UrlConfig

MAX_URL = 8000
"""Characters; what servers and proxies commonly accept (RFC 9110, section 4.1, recommends 8,000 octets)."""
NUMERIC = re.compile(r"(^|\.)(\d+|0x[0-9a-f]*)$", re.IGNORECASE)
"""A last label that makes a host an IPv4 address to a browser: `2130706433`, `0x7f.1`, `0177.0.0.1`."""
HOSTNAME = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?", re.IGNORECASE)
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
SENT_AS_IT_IS = re.compile(r"[A-Za-z0-9:/?#\[\]@!$&'()*+,;=._~%-]+")
"""Characters of RFC 3986: a URL of these alone is not quoted again, for signatures depend on its letters."""
NEVER = tuple(
    ipaddress.ip_network(text)
    for text in (
        "168.63.129.16/32",  # Azure's metadata and DNS server: a global address that is inside every VM
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata server among them
        "192.88.99.0/24",  # 6to4 relays
        "::/96",  # IPv4-compatible: an IPv4 address in disguise, like the four below
        "::ffff:0:0/96",  # IPv4-mapped
        "64:ff9b::/96",  # NAT64
        "64:ff9b:1::/48",
        "2001::/32",  # Teredo
        "2002::/16",  # 6to4
        "fec0::/10",  # site-local
        "3fff::/20",  # documentation
        "5f00::/16",  # segment routing
    )
)
"""Networks refused besides what `ipaddress` knows to be not global."""


class Refused(Exception):
    """A URL that is not asked, by policy."""

    def __init__(self, code: str, evidence: str) -> None:
        super().__init__(code, evidence)
        self.code, self.evidence = code, evidence


@dataclass(frozen=True)
class Policy:
    """What a URL may name."""

    ports: frozenset[int]
    private_hosts: frozenset[str]
    """Lower case; their addresses are not judged."""

    @classmethod
    def of(cls, config: UrlConfig) -> Policy:
        return cls(
            frozenset(config.allow_ports), frozenset(host.lower() for host in config.allow_private_hosts)
        )


def check_url(text: str, policy: Policy) -> URL:
    """The URL as it will be asked: what is judged here and what is connected to is one object.

    Raises:
        Refused: `bad_url`, `bad_scheme`, `credentials`, `bad_port` or `private_address`.
    """
    text = text.strip()
    if len(text) > MAX_URL or CONTROL.search(text):
        raise Refused("bad_url", f"{len(text)} characters" if len(text) > MAX_URL else "control characters")
    try:
        url = URL(text, encoded=SENT_AS_IT_IS.fullmatch(text) is not None)
        host, port = url.raw_host, url.port
    except (ValueError, UnicodeError) as error:
        raise Refused("bad_url", str(error)[:200]) from error
    if url.scheme not in ("http", "https"):
        raise Refused("bad_scheme", url.scheme or "none")
    if not host:
        raise Refused("bad_url", "no host")
    if url.raw_user is not None or url.raw_password is not None:
        raise Refused("credentials", f"user name or password for {host}")
    check_host(host, policy)
    if port not in policy.ports:
        raise Refused("bad_port", str(port))
    return url.with_fragment(None)


def check_host(host: str, policy: Policy) -> None:
    """
    Raises:
        Refused: it is a private address, or a number that only some programs read as an address.
    """
    if host.lower() in policy.private_hosts:
        return
    if ":" in host or NUMERIC.search(host.rstrip(".")):
        try:
            ipaddress.ip_address(host)
        except ValueError as error:
            raise Refused("bad_url", f"a number for a host: {host}") from error
        check_address(host, host)
    elif not HOSTNAME.fullmatch(host):
        raise Refused("bad_url", f"not a host name: {host[:80]}")


def check_address(address: str, host: str) -> None:
    """Judge one address that `host` resolves to.

    Raises:
        Refused: `private_address`, for whatever is not a global unicast address.
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    sound = found.is_global and not (found.is_multicast or found.is_reserved or found.is_unspecified)
    if not sound or any(found in network for network in NEVER if network.version == found.version):
        raise Refused("private_address", address if address == host else f"{host} is {address}")
