"""A server that is allowed by name, and downloads that wait for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest
from picture_server import PictureServer

from components.config.urls import UrlConfig
from components.curate.sources.urls.client import Client, Lookup
from components.curate.sources.urls.outcome import Outcome

Download = Callable[..., list[Outcome]]


@pytest.fixture
def server() -> Iterator[PictureServer]:
    served = PictureServer()
    yield served
    served.close()


@pytest.fixture
def url_config(server: PictureServer) -> Callable[..., UrlConfig]:
    """Reaches the server as 127.0.0.1 and no other private address; keywords replace its fields."""

    def make(**fields: object) -> UrlConfig:
        defaults: dict[str, object] = {
            "allow_private_hosts": ("127.0.0.1",),
            "allow_ports": (80, 443, server.port),
            "backoff_s": 0.0,
            "connect_timeout_s": 5,
            "read_timeout_s": 5,
            "total_timeout_s": 5,
        }
        return UrlConfig.model_validate(defaults | fields)

    return make


@pytest.fixture
def ask(url_config: Callable[..., UrlConfig]) -> Download:
    """Ask for URLs, all at once; outcomes in their order."""

    def run(*urls: str, lookup: Lookup | None = None, **fields: object) -> list[Outcome]:
        async def all_of_them() -> list[Outcome]:
            async with Client(url_config(**fields), lookup) as client:
                return await asyncio.gather(*(client.get(url) for url in urls))

        return asyncio.run(all_of_them())

    return run
