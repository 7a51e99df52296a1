"""Packages as sources (`pypi:`, `npm:`, `deb:`): exact versions, downloaded once, never unpacked.

downloads/<registry>/<name>-<version>/<archive>
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from components.artifacts import digest_file
from components.config import SourceConfig
from components.curate.archives import licence
from components.curate.clients import Locator
from components.curate.fetch import Fetched, Scheme
from components.errors import ConfigError, SourceError

TIMEOUT_S = 900


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
    path = cached(parsed, downloads) or _download(parsed, downloads)
    return Fetched(str(parsed), parsed.version, path, digest_file(path), licence(path))


SCHEME = Scheme(check, unavailable, fetch, versioned=True)


def cached(locator: Locator, downloads: Path) -> Path | None:
    """The archive where it was fetched before."""
    directory = _cache_directory(locator, downloads)
    return next(iter(sorted(directory.iterdir())), None) if directory.is_dir() else None


def _cache_directory(locator: Locator, downloads: Path) -> Path:
    name = locator.name.lstrip("@").replace("/", "-")
    return downloads / locator.registry / f"{name}-{locator.version}"


def _download(locator: Locator, downloads: Path) -> Path:
    """Download beside the cache, then rename: the cache holds whole archives only."""
    obstacle = locator.client.unavailable(locator)
    if obstacle:
        raise SourceError(
            f"{locator} cannot be fetched: {obstacle}",
            where="curate.sources",
            fix="mend that, or take the source out of curate.sources",
        )
    target = _cache_directory(locator, downloads)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        done = subprocess.run(
            locator.client.command(locator), cwd=temporary, capture_output=True, text=True, timeout=TIMEOUT_S
        )
        if done.returncode or not any(Path(temporary).iterdir()):
            raise _explain(locator, done.stderr + done.stdout)
        staged = Path(temporary) / "staged"
        files = [path for path in Path(temporary).iterdir() if path.is_file()]
        staged.mkdir()
        for path in files:
            path.rename(staged / path.name)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(staged, target)
    found = cached(locator, downloads)
    assert found is not None
    return found


def _explain(locator: Locator, output: str) -> ConfigError | SourceError:
    last = "\n    ".join(output.strip().splitlines()[-6:])
    if locator.client.missing.search(output):
        return ConfigError(
            f"the source does not exist: {locator}",
            where="curate.sources",
            fix=f"mend the name or the version; {locator.client.program} said:\n    {last}",
        )
    return SourceError(
        f"{locator.client.program} could not fetch {locator}:\n    {last}",
        where="curate.sources",
        fix="check the network and the client's settings, then run the same command again",
    )
