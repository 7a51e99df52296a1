"""Check every source before anything runs, and fetch what the cache lacks.

config = preflight(config.curate)
"""

from __future__ import annotations

from pathlib import Path

from components.artifacts import digest_directory, digest_file
from components.config import CurateConfig, SourceConfig
from components.curate.duplicates import read_evaluation_set
from components.curate.fetch import Fetched
from components.curate.schemes import locators, scheme_of, source_keys
from components.curate.textual.language import known_languages
from components.errors import ConfigError
from components.progress import console, track


def preflight(config: CurateConfig) -> CurateConfig:
    """Check before anything runs that every source can be had; fetch what is not cached yet.

    Returns:
        The config without the sources that this machine cannot fetch (no client, or a Debian release with
        another version), and with the content digests of those that have no version and of the files that it
        names. Curate this one: what was left out, and what was found, is then part of the result's identity.

    Raises:
        ConfigError: a source, a version or an option does not exist, or no source is left.
        SourceError: a source exists perhaps, but could not be fetched.
    """
    source_keys(config)
    for source in config.sources:
        _check_languages(source)
    digests = _digests(config)
    wanted = [(source, locators(source)) for source in config.sources]
    available = []
    for source, roles in wanted:
        obstacles = [scheme_of(each).unavailable(each, config.execution.downloads) for each in roles.values()]
        obstacle = next((each for each in obstacles if each), "")
        if obstacle:
            console.print(f"[yellow]skipped {source.locator}: {obstacle}")
        else:
            available.append((source, roles))
    if not available:
        raise ConfigError("no source is left", where="curate.sources", fix="install one of their clients")
    kept = []
    for source, roles in track(available, "fetch sources", total=len(available), unit="source"):
        fetched = {
            role: scheme_of(each).fetch(each, source, config.execution.downloads)
            for role, each in roles.items()
        }
        kept.append(_with_digest(source, fetched["data"]))
    return config.of_sources(tuple(kept)).model_copy(update={"digests": digests})


def _check_languages(source: SourceConfig) -> None:
    """
    Raises:
        ConfigError: texts shall be in a language that the identifier does not know: none would be.
    """
    unknown = sorted(set(source.text.languages) - known_languages()) if source.text.languages else []
    if unknown:
        raise ConfigError(
            f"text.languages: there is no language '{unknown[0]}'",
            where=f"curate.sources, {source.locator}",
            fix=f"codes of languages: {', '.join(sorted(known_languages()))}",
        )


def _digests(config: CurateConfig) -> dict[str, str]:
    """SHA-256 of every file and folder that the config names besides sources; models of a hub have none."""
    names = list(config.duplicates.evaluation_sets)
    for each in names:
        read_evaluation_set(Path(each))  # not after hours of decoding
    names += [config.tower] if config.tower else []
    names += [config.alignment.model] if config.alignment and config.alignment.model else []
    names += [config.annotate.review.file] if config.annotate and config.annotate.review.file else []
    digests = {}
    for path in map(Path, names):
        if path.exists():
            digests[str(path)] = digest_directory(path) if path.is_dir() else digest_file(path)
    for name, given in config.digests.items():
        if digests.get(name) != given:
            raise ConfigError(
                f"the content of {name} is not the one that the config names: "
                f"{digests.get(name, 'nothing there')[:16]} instead of {given[:16]}",
                where="curate.digests",
                fix="bring the content back, or change (or leave out) its digest",
            )
    return digests


def _with_digest(source: SourceConfig, fetched: Fetched) -> SourceConfig:
    if scheme_of(source.locator).versioned:
        return source
    if source.digest and source.digest != fetched.sha256:
        raise ConfigError(
            f"the content of {source.locator} is not the one that the config names: "
            f"{fetched.sha256[:16]}… instead of {source.digest[:16]}…",
            where="curate.sources",
            fix="bring the content back, or change (or leave out) `digest`",
        )
    if not (source.licence or fetched.licence):
        raise ConfigError(
            f"{source.locator} declares no licence",
            where="curate.sources",
            fix="say under which licence you may use it: licence = 'CC-BY-4.0'",
        )
    return source.model_copy(update={"digest": fetched.sha256})
