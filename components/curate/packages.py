"""Packages as sources (`pypi:`, `npm:`, `deb:`): exact versions, downloaded once, never unpacked."""

from __future__ import annotations

from pathlib import Path

from components.artifacts import digest_file
from components.config import SourceConfig
from components.curate.archives import licence
from components.curate.fetch import Fetched, Scheme
from components.packages import Locator, cached, fetch_package


def check(locator: str) -> None:
    """
    Raises:
        ConfigError: it is not a locator of a package.
    """
    Locator.parse(locator)


def unavailable(locator: str, downloads: Path) -> str:
    """Why this machine cannot fetch a package; empty when it can, or when it is cached."""
    parsed = Locator.parse(locator)
    return "" if cached(parsed, downloads) else parsed.client.unavailable(parsed)


def fetch(locator: str, _source: SourceConfig, downloads: Path) -> Fetched:
    """The archive of a locator, from the cache or by its client.

    Raises:
        ConfigError: the package or the version does not exist.
        SourceError: the client is missing or failed.
    """
    parsed = Locator.parse(locator)
    path = fetch_package(parsed, downloads, where="curate.sources")
    return Fetched(str(parsed), parsed.version, path, digest_file(path), licence(path))


SCHEME = Scheme(check, unavailable, fetch, versioned=True)
