"""Emoji as data: the concepts that emojibase names, and one vendor's drawings of them.

A vendor's package (npm `@iconify-json/<vendor>`) says with `chars.json` which drawing belongs to which
code points. Where that table is empty (emojione), a drawing is found by its name: emojibase's label, then
the shortcodes that vendors share; a drawing that two concepts claim belongs to the one with that label.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.config import SourceConfig
from components.curate.archives import members
from components.curate.sources.planning import names
from components.errors import ConfigError, SourceError

LABELS, GROUPS = "package/en/data.json", "package/meta/groups.json"
SHORTCODES = ("package/en/shortcodes/emojibase.json", "package/en/shortcodes/joypixels.json")


@dataclass(frozen=True)
class Concept:
    """What an emoji stands for, whoever draws it. Skin tones and genders are no concepts of their own."""

    hexcode: str
    label: str
    """English, lower case."""
    group: str
    subgroup: str
    shortcodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Icons:
    """One vendor's drawings."""

    prefix: str
    width: float
    height: float
    drawings: Mapping[str, Mapping[str, Any]]
    """Name → body and what differs from the set's own size."""
    by_codes: Mapping[str, str]
    """Code points → name; empty where the vendor has no such table."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Other name → name of the very same drawing."""

    def find(self, concepts: Sequence[Concept]) -> dict[str, str]:
        """Hexcode of each concept that the vendor draws → the drawing's name."""
        if not self.by_codes:
            return self._find_by_names(concepts)
        found = {each.hexcode: self.by_codes.get(fold_codes(each.hexcode), "") for each in concepts}
        return {hexcode: name for hexcode, name in found.items() if name in self.drawings}

    def _find_by_names(self, concepts: Sequence[Concept]) -> dict[str, str]:
        found: dict[str, str] = {}
        taken: set[str] = set()
        for spellings in (
            {c.hexcode: (c.label,) for c in concepts},
            {c.hexcode: c.shortcodes for c in concepts},
        ):
            for concept in concepts:
                if concept.hexcode in found:
                    continue
                name = self._first_known(spellings[concept.hexcode], taken)
                if name:
                    found[concept.hexcode] = name
                    taken.add(name)
        return found

    def _first_known(self, spellings: Sequence[str], taken: Container[str]) -> str:
        for spelling in spellings:
            name = _icon_name(spelling)
            name = self.aliases.get(name, name)
            if name in self.drawings and name not in taken:
                return name
        return ""

    def svg(self, name: str) -> str:
        """A drawing as a document of its own."""
        icon = self.drawings[name]
        box = (
            icon.get("left", 0),
            icon.get("top", 0),
            icon.get("width", self.width),
            icon.get("height", self.height),
        )
        return (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{" ".join(map(str, box))}">{icon["body"]}</svg>'
        )


def read_icons(package: Path) -> Icons:
    """
    Raises:
        SourceError: the package is no iconify set.
    """
    files = _read(package, ("package/icons.json", "package/chars.json"))
    if "package/icons.json" not in files:
        raise SourceError("no icons.json in it", where=str(package), fix="name an @iconify-json package")
    icons = files["package/icons.json"]
    plain = {name: each for name, each in icons.get("aliases", {}).items() if set(each) == {"parent"}}
    return Icons(
        prefix=icons["prefix"],
        width=icons.get("width", 16),
        height=icons.get("height", 16),
        drawings=icons["icons"],
        by_codes={fold_codes(codes): name for codes, name in files.get("package/chars.json", {}).items()},
        aliases={name: each["parent"] for name, each in plain.items()},
    )


def read_concepts(labels: Path, source: SourceConfig) -> list[Concept]:
    """emojibase's concepts in its order, of the groups that `options.groups` names (all, if it names none).

    Raises:
        ConfigError: `options.groups` names a group that emojibase does not have.
        SourceError: the package is not emojibase.
    """
    files = _read(labels, (LABELS, GROUPS, *SHORTCODES))
    if LABELS not in files or GROUPS not in files:
        raise SourceError("no English labels in it", where=str(labels), fix="name npm:emojibase-data")
    groups = {int(number): name for number, name in files[GROUPS]["groups"].items()}
    subgroups = {int(number): name for number, name in files[GROUPS].get("subgroups", {}).items()}
    wanted = names(source, "groups")
    unknown = [name for name in wanted if name not in groups.values()]
    if unknown:
        raise ConfigError(
            f"unknown group of emoji {', '.join(unknown)}",
            where=f"curate.sources, {source.locator}, options.groups",
            fix=f"groups it knows: {', '.join(groups.values())}",
        )
    concepts = [
        Concept(
            hexcode=entry["hexcode"],
            label=entry["label"].lower(),
            group=groups.get(entry.get("group"), ""),
            subgroup=subgroups.get(entry.get("subgroup"), ""),
            shortcodes=tuple(_shortcodes(entry["hexcode"], files)),
        )
        for entry in files[LABELS]
        if "gender" not in entry
    ]
    return [each for each in concepts if "groups" not in source.options or each.group in wanted]


def _shortcodes(hexcode: str, files: Mapping[str, Any]) -> Iterator[str]:
    for table in SHORTCODES:
        found = files.get(table, {}).get(hexcode, ())
        yield from (found,) if isinstance(found, str) else found


def _read(package: Path, wanted: Sequence[str]) -> dict[str, Any]:
    """Those JSON files that the package has, in one pass."""
    return {name: json.loads(content) for name, content in members(package) if name in wanted}


def fold_codes(hexcode: str) -> str:
    """Code points without the variation selector, which vendors write or leave out."""
    return "-".join(code for code in hexcode.lower().split("-") if code != "fe0f")


def _icon_name(label: str) -> str:
    """A label as vendors spell it in a file name: `Côte d’Ivoire` → `cote-divoire`."""
    plain = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain.replace("'", "")).strip("-")
