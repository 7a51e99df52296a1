"""The cache of downloads: exact versions, fetched once by the registry's own client.

downloads/<registry>/<name>-<version>/<archive>
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from components.errors import ConfigError, SourceError
from components.packages.clients import Locator

TIMEOUT_S = 900


def fetch_package(locator: Locator, downloads: Path, *, where: str) -> Path:
    """The archive of a package, from the cache or by its client.

    Args:
        where: The config key that names the package, for errors.

    Raises:
        ConfigError: the package or the version does not exist.
        SourceError: the client is missing or failed.
    """
    return cached(locator, downloads) or _download(locator, downloads, where)


def cached(locator: Locator, downloads: Path) -> Path | None:
    """The archive where it was fetched before."""
    directory = _cache_directory(locator, downloads)
    return next(iter(sorted(directory.iterdir())), None) if directory.is_dir() else None


def _cache_directory(locator: Locator, downloads: Path) -> Path:
    name = locator.name.lstrip("@").replace("/", "-")
    return downloads / locator.registry / f"{name}-{locator.version}"


def _download(locator: Locator, downloads: Path, where: str) -> Path:
    """Download beside the cache, then rename: the cache holds whole archives only."""
    obstacle = locator.client.unavailable(locator)
    if obstacle:
        raise SourceError(
            f"{locator} cannot be fetched: {obstacle}",
            where=where,
            fix=f"mend that, or take the source out of {where}",
        )
    target = _cache_directory(locator, downloads)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        done = subprocess.run(
            locator.client.command(locator), cwd=temporary, capture_output=True, text=True, timeout=TIMEOUT_S
        )
        if done.returncode or not any(Path(temporary).iterdir()):
            raise _explain(locator, done.stderr + done.stdout, where)
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


def _explain(locator: Locator, output: str, where: str) -> ConfigError | SourceError:
    last = "\n    ".join(output.strip().splitlines()[-6:])
    if locator.client.missing.search(output):
        return ConfigError(
            f"the source does not exist: {locator}",
            where=where,
            fix=f"mend the name or the version; {locator.client.program} said:\n    {last}",
        )
    return SourceError(
        f"{locator.client.program} could not fetch {locator}:\n    {last}",
        where=where,
        fix="check the network and the client's settings, then run the same command again",
    )
