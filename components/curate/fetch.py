"""Fetch sources by exact version with the ordinary clients (pip, npm, apt-get), once, into a cache.

    downloads/<registry>/<name>-<version>/<archive>

Nothing is unpacked or executed: readers read inside the archive. What was fetched is recorded with
its SHA-256 and the licence that the package itself declares.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from components.artifacts import digest_file
from components.config import CurateConfig, SourceConfig
from components.curate.archives import licence
from components.curate.clients import Locator
from components.curate.samples import slug
from components.curate.sources import READERS
from components.errors import ConfigError, SourceError
from components.progress import console, track

TIMEOUT_S = 900


@dataclass(frozen=True)
class Fetched:
    """An archive in the cache."""

    locator: Locator
    path: Path
    sha256: str
    licence: str


def locators(source: SourceConfig) -> dict[str, Locator]:
    """Everything a source fetches, by role: `data`, and the reader's options that are locators."""
    found = {"data": Locator.parse(source.locator)}
    for option in READERS[source.reader].locators:
        if option not in source.options:
            raise ConfigError(
                f"reader '{source.reader}' needs the option '{option}'",
                where=f"curate.sources, {source.locator}",
                fix=f"add options = {{ {option} = 'npm:NAME==VERSION' }}",
            )
        found[option] = Locator.parse(str(source.options[option]))
    return found


def preflight(config: CurateConfig) -> CurateConfig:
    """Check before anything runs that every source can be had; fetch what is not cached yet.

    Returns:
        The config without the sources that this machine cannot fetch (no client, or a Debian release with
        another version). Curate this one: what was left out is then part of the result's identity.

    Raises:
        ConfigError: a source, a version or an option does not exist, or no source is left.
        SourceError: a source exists perhaps, but could not be fetched.
    """
    _check_names(config)
    for source in config.sources:
        _check_options(source)
    wanted = [(source, locators(source)) for source in config.sources]
    pending = {
        locator
        for _, roles in wanted
        for locator in roles.values()
        if cached(locator, config.execution.downloads) is None and not locator.client.unavailable(locator)
    }
    for locator in track(sorted(pending, key=str), "fetch sources", total=len(pending), unit="source"):
        fetch(locator, config.execution.downloads)
    kept = []
    for source, roles in wanted:
        absent = [each for each in roles.values() if cached(each, config.execution.downloads) is None]
        if absent:
            obstacle = absent[0].client.unavailable(absent[0])
            console.print(f"[yellow]skipped {source.locator}: {obstacle}")
        else:
            kept.append(source)
    if not kept:
        raise ConfigError("no source is left", where="curate.sources", fix="install one of their clients")
    return config.model_copy(update={"sources": tuple(kept)})


def _check_names(config: CurateConfig) -> None:
    """Keys are made from package names, so a package may come once."""
    names = [slug(Locator.parse(source.locator).name) for source in config.sources]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"'{name}' is listed twice", where="curate.sources", fix="keep one of them")


def _check_options(source: SourceConfig) -> None:
    known = READERS[source.reader].options
    for name, value in source.options.items():
        kind = known.get(name)
        if kind is None:
            raise ConfigError(
                f"unknown option '{name}' of reader '{source.reader}'",
                where=f"curate.sources, {source.locator}",
                fix=f"options it knows: {', '.join(known)}",
            )
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise ConfigError(
                f"option '{name}' must be of type {kind.__name__}, got {value!r}",
                where=f"curate.sources, {source.locator}",
                fix="mend the value",
            )


def fetch(locator: Locator, downloads: Path) -> Fetched:
    """The archive of a locator, from the cache or by its client.

    Raises:
        ConfigError: the package or the version does not exist.
        SourceError: the client is missing or failed.
    """
    path = cached(locator, downloads) or _download(locator, downloads)
    return Fetched(locator, path, digest_file(path), licence(path))


def cached(locator: Locator, downloads: Path) -> Path | None:
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
