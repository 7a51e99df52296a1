"""The `urls:` scheme: a list of URLs with captions becomes a directory of pictures and a content digest.

fetched = fetch("urls:data/laion.parquet", source, downloads)
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from components.config import SourceConfig
from components.config.urls import UrlConfig
from components.curate.fetch import Fetched, Scheme
from components.curate.samples import slug
from components.curate.sources.urls import lists
from components.curate.sources.urls.lists import list_files, parse_options, read_rows
from components.curate.sources.urls.selection import wanted
from components.curate.sources.urls.store import Status, only_writer, read_statuses
from components.errors import ConfigError, SourceError

MAX_NAME = 60


def check(locator: str) -> None:
    """
    Raises:
        ConfigError: it is no locator of this scheme.
    """
    if not locator.startswith(lists.SCHEME) or not locator.removeprefix(lists.SCHEME).strip():
        raise ConfigError(
            f"'{locator}' is not a list of URLs",
            where="curate.sources",
            fix=f"write urls:PATH, a file, directory or pattern of {', '.join(lists.SUFFIXES)}",
        )


def fetch(locator: str, source: SourceConfig, downloads: Path) -> Fetched:
    """Download what the store lacks; see `resolve`."""
    return resolve(locator, source, downloads, source.urls)


def resolve(
    locator: str, source: SourceConfig, downloads: Path, config: UrlConfig, *, retry_failed: bool = False
) -> Fetched:
    """The directory of the pictures that a list names. Nothing is asked that was asked before.

    Args:
        retry_failed: Ask once more for the pictures that did not come.

    Returns:
        The digest is over the list and the pictures that came (URL and SHA-256): neither time nor order
        nor machine is in it, and it changes when a failed picture comes after all.

    Raises:
        ConfigError: the list or a column does not exist.
        SourceError: the list is damaged, or fewer pictures came than `config.min_success`.
    """
    options, files = parse_options(source), list_files(locator)
    urls = wanted(read_rows(files, options), options)
    directory = store_directory(locator, downloads, config)
    with only_writer(directory):
        known = read_statuses(directory)
        pending = [url for url in urls if url not in known or (retry_failed and known[url].code)]
        if pending:
            # aiohttp is imported where it is needed: reading a config must stay quick
            from components.curate.sources.urls.download import download

            download(pending, directory, config)
            known = read_statuses(directory)
    _check_success(urls, known, config, locator)
    digest = _digest(lists.digest_lists(files), urls, known)
    licence = "per sample" if options.licence else ""
    return Fetched(locator, digest[:16], directory, digest, licence)


def store_directory(locator: str, downloads: Path, config: UrlConfig) -> Path:
    """`downloads/urls/<list>-<policy>`: pictures that another policy let through are not found here."""
    policy = json.dumps(
        [
            config.agent,
            config.respect_noai,
            config.max_bytes,
            config.max_redirects,
            sorted(config.allow_ports),
            sorted(config.allow_private_hosts),
        ]
    )
    name = slug(locator.removeprefix(lists.SCHEME))[-MAX_NAME:].strip("-")
    return downloads / "urls" / f"{name}-{hashlib.sha256(policy.encode()).hexdigest()[:8]}"


def _check_success(urls: Sequence[str], known: Mapping[str, Status], config: UrlConfig, locator: str) -> None:
    reasons = Counter(known[url].code for url in urls)
    share = reasons.pop("", 0) / len(urls) if urls else 0.0
    if share < config.min_success:
        common = ", ".join(f"{code} {count}" for code, count in reasons.most_common(5))
        raise SourceError(
            f"only {share:.1%} of {len(urls)} pictures came (at least {config.min_success:.0%} must); "
            f"the others: {common or 'none'}",
            where=locator,
            fix="check the network and `urls` in the source's config, then try the failed ones again "
            "(`opsin data download CONFIG --retry-failed`), or lower `urls.min_success`",
        )


def _digest(listed: str, urls: Sequence[str], known: Mapping[str, Status]) -> str:
    digest = hashlib.sha256(listed.encode())
    for url in sorted(urls):
        if not known[url].code:
            digest.update(f"\n{known[url].sha256} {url}".encode())
    return digest.hexdigest()


def _unavailable(_locator: str, _downloads: Path) -> str:
    return ""


SCHEME = Scheme(check=check, unavailable=_unavailable, fetch=fetch, versioned=False)
