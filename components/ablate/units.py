"""What of a curation can be left out on its own: a filter, an enrichment, or a source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from components.config import CurateConfig, SourceConfig
from components.errors import ConfigError

SECTIONS: Final = ("safety", "alignment", "diversity", "annotate")
TEXT: Final[dict[str, Any]] = {
    "boilerplate": False,
    "max_repeats": 0,
    "languages": (),
    "profanity": False,
    "special_tokens": False,
    "characters": False,
    "max_markup": 1.0,
    "max_symbols": 1.0,
    "min_chars": 0,
}
"""Text filter → its value that lets everything pass. Personal data stay out, whatever that is worth."""
SOURCE: Final = "source:"


def units_of(curate: CurateConfig) -> list[str]:
    """All that the config itself asks for: sections, text filters that a source sets, and sources.

    Duplicates and leaks into held-out splits are not among them: a run that saw what it is measured on would
    look better for it. Neither is a source that only gives held-out samples, or all of a category.
    """
    units = [name for name in SECTIONS if getattr(curate, name) is not None]
    set_by_a_source = {name for source in curate.sources for name in source.text.model_fields_set}
    units += [f"text.{name}" for name in TEXT if name in set_by_a_source]
    named = Counter(source.locator for source in curate.sources)
    return units + [
        f"{SOURCE}{source.locator}"
        for source in curate.sources
        if named[source.locator] == 1 and not source.options.get("held_out") and _has_company(curate, source)
    ]


def without(curate: CurateConfig, unit: str) -> CurateConfig:
    """The curation as it would be without one of its parts.

    Raises:
        ConfigError: it has no such part, or cannot be without it.
    """
    if unit.startswith(SOURCE):
        return _without_source(curate, unit.removeprefix(SOURCE))
    section, _, key = unit.partition(".")
    if section == "text" and key in TEXT:
        off = {key: TEXT[key]}
        if all(getattr(source.text, key) == TEXT[key] for source in curate.sources):
            raise _unknown(curate, unit, "no source has this filter on")
        sources = [
            source.model_copy(update={"text": source.text.model_copy(update=off)})
            for source in curate.sources
        ]
        return curate.model_copy(update={"sources": tuple(sources)})
    if unit in SECTIONS and getattr(curate, unit) is not None:
        return curate.model_copy(update={unit: None})
    raise _unknown(curate, unit, "the config has no such part")


def _without_source(curate: CurateConfig, locator: str) -> CurateConfig:
    gone = [source for source in curate.sources if source.locator == locator]
    if not gone:
        raise _unknown(curate, f"{SOURCE}{locator}", "the config has no such source")
    rest = tuple(source for source in curate.sources if source.locator != locator)
    lost = {source.category for source in gone} - {
        source.category for source in rest if not source.options.get("held_out")
    }
    if lost:
        raise _unknown(
            curate,
            f"{SOURCE}{locator}",
            f"nothing else gives training samples of '{lost.pop()}' (the ablation says how much it wants)",
        )
    return curate.of_sources(rest)


def _has_company(curate: CurateConfig, source: SourceConfig) -> bool:
    return any(
        other is not source and other.category == source.category and not other.options.get("held_out")
        for other in curate.sources
    )


def _unknown(curate: CurateConfig, unit: str, why: str) -> ConfigError:
    known: Sequence[str] = units_of(curate)
    return ConfigError(
        f"'{unit}' cannot be left out: {why}",
        where="--without",
        fix=f"name one of: {', '.join([*known, *(f'text.{name}' for name in TEXT)])}",
    )
