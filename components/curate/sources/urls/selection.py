"""Which rows of a list are asked for: the same answer when downloading and when planning."""

from __future__ import annotations

from collections.abc import Iterable

from components.curate.samples import Reason, share
from components.curate.sources.urls.lists import BadRow, ListOptions, UrlRow


def chosen(url: str, options: ListOptions) -> bool:
    """Whether a URL is in the share that is taken: always the same ones, whatever else the list holds."""
    return options.sample >= 1 or share(0, "urls sample", url) < options.sample


def refusal(row: UrlRow, options: ListOptions) -> Reason | None:
    """Why a row is rejected by what the list itself says, before anyone is asked."""
    if options.min_side and row.short_side is not None and row.short_side < options.min_side:
        return Reason("declared_too_small", evidence=f"{row.short_side} pixels")
    return None


def wanted(rows: Iterable[UrlRow | BadRow], options: ListOptions) -> list[str]:
    """The URLs to download, each once, in the list's order."""
    good = (row for row in rows if isinstance(row, UrlRow))
    return list(
        dict.fromkeys(row.url for row in good if chosen(row.url, options) and refusal(row, options) is None)
    )
