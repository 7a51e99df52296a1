"""Which schemes there are, and what a source's config names: its locators by role, its reader, its key.

To add a scheme, write its module with a `SCHEME` and list it here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from components.config import CurateConfig, SourceConfig
from components.curate import packages
from components.curate.fetch import Scheme
from components.curate.samples import slug
from components.curate.sources import READERS, Reader, Share
from components.curate.sources.files import folder, hub, webdataset
from components.curate.sources.urls import scheme as urls
from components.errors import ConfigError

SCHEMES: Mapping[str, Scheme] = {
    "pypi": packages.SCHEME,
    "npm": packages.SCHEME,
    "deb": packages.SCHEME,
    "hub": hub.SCHEME,
    "folder": folder.SCHEME,
    "webdataset": webdataset.SCHEME,
    "urls": urls.SCHEME,
}


def scheme_of(locator: str) -> Scheme:
    """
    Raises:
        ConfigError: no such scheme, or the text is no locator of it.
    """
    name = locator.partition(":")[0]
    if name not in SCHEMES:
        raise ConfigError(f"'{locator}' is not a source locator", fix=f"schemes: {', '.join(SCHEMES)}")
    SCHEMES[name].check(locator)
    return SCHEMES[name]


def reader_name(source: SourceConfig) -> str:
    """The reader that a source names, or the one of its scheme."""
    return source.reader or source.locator.partition(":")[0]


def reader_of(source: SourceConfig) -> Reader:
    """
    Raises:
        ConfigError: no such reader.
    """
    name = reader_name(source)
    if name not in READERS:
        raise ConfigError(
            f"unknown reader '{name}'" if source.reader else f"{source.locator} needs a reader",
            where="curate.sources",
            fix=f"readers: {', '.join(READERS)}",
        )
    return READERS[name]


def locators(source: SourceConfig) -> dict[str, str]:
    """Everything a source fetches, by role: `data`, and the reader's options that are locators.

    Raises:
        ConfigError: a locator, the reader or an option does not exist, or an option is missing.
    """
    reader = reader_of(source)
    _check_options(source, reader)
    found = {"data": source.locator}
    for option in reader.locators:
        if option not in source.options:
            raise ConfigError(
                f"reader '{source.reader}' needs the option '{option}'",
                where=f"curate.sources, {source.locator}",
                fix=f"add options = {{ {option} = 'npm:NAME==VERSION' }}",
            )
        found[option] = str(source.options[option])
    for each in found.values():
        scheme_of(each)
    return found


def source_keys(config: CurateConfig) -> dict[str, str]:
    """`source_id` of every source → the prefix of its samples' keys.

    The first source of a package has the package's name; a later one adds what tells it apart, as little as
    needed, so that one added at the end renames no sample.

    Raises:
        ConfigError: a source is listed twice.
    """
    keys: dict[str, str] = {}
    for source in config.sources:
        name = source_id(source)
        if name in keys:
            raise ConfigError(
                f"'{source.locator}' is listed twice with the same reader, category and options",
                where="curate.sources",
                fix="keep one of them; limit, licence, text and digest make no other source of it",
            )
        keys[name] = next(key for key in _possible_keys(source) if key not in keys.values())
    return keys


def _possible_keys(source: SourceConfig) -> Iterator[str]:
    """Prefixes for a source's keys, the shortest first; the last is no other source's."""
    scheme, _, rest = source.locator.partition(":")
    name = rest.partition("==")[0] if SCHEMES[scheme].versioned else rest
    key = slug(name)
    if len(key) > 40:  # a long path: its end tells it from others, a hash makes sure
        key = f"{key[-31:].strip('-')}-{_short_hash(name)}"
    yield key
    key = f"{key}-{slug(reader_name(source))}"
    yield key
    key = f"{key}-{slug(source.category)}"
    yield key
    yield f"{key}-{_short_hash(source_id(source))}"


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def source_id(source: SourceConfig) -> str:
    """What tells sources of one config apart: a package may be read by several readers, or by one of them in
    several ways, into several categories."""
    options = json.dumps(source.options, sort_keys=True)
    return f"{source.locator} {reader_name(source)} {source.category} {options}"


def _check_options(source: SourceConfig, reader: Reader) -> None:
    for name, value in source.options.items():
        kind = reader.options.get(name)
        if kind is None:
            raise ConfigError(
                f"unknown option '{name}' of reader '{reader_name(source)}'",
                where=f"curate.sources, {source.locator}",
                fix=f"options it knows: {', '.join(reader.options)}",
            )
        if not _fits(value, kind):
            wanted = "a share, from 0 to less than 1" if kind is Share else f"of type {kind.__name__}"
            raise ConfigError(
                f"option '{name}' must be {wanted}, got {value!r}",
                where=f"curate.sources, {source.locator}",
                fix="mend the value",
            )


def _fits(value: Any, kind: type) -> bool:
    """Whether a value from TOML, which writes 1 for 1.0, is of a kind."""
    if not issubclass(kind, float):
        return type(value) is kind
    return type(value) in (int, float) and (kind is not Share or 0 <= value < 1)
