"""What fetching is: one interface for every kind of locator, and what it gives.

fetched = scheme_of(locator).fetch(locator, source, downloads)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from components.config import SourceConfig


@dataclass(frozen=True)
class Fetched:
    """A source on this machine."""

    locator: str
    version: str
    """Of the package or the revision; for sources without one, the first 16 hex digits of the content's
    digest."""
    path: Path
    """An archive, a file, or a directory."""
    sha256: str
    licence: str


@dataclass(frozen=True)
class Scheme:
    """One kind of locator (`pypi:…`, `folder:…`): all sources come through this."""

    check: Callable[[str], None]
    """Raises ConfigError where the text is no locator of this scheme."""
    unavailable: Callable[[str, Path], str]
    """Why this machine cannot have the source; empty when it can, or has it in the cache already."""
    fetch: Callable[[str, SourceConfig, Path], Fetched]
    """From the cache, or from where it lies. Raises ConfigError (it does not exist), SourceError (it could
    not be fetched)."""
    versioned: bool
    """Whether the locator itself names the content; if not, the content's digest goes into the config."""
