"""Emoji: drawings found by code points, or by names where a vendor has no such table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_sources as tiny
from reader_cases import Case

from components.curate.sources.packages.icons import Concept, Icons, read_icons
from components.errors import SourceError


def _concept(hexcode: str, label: str, *shortcodes: str) -> Concept:
    return Concept(hexcode, label, group="", subgroup="", shortcodes=shortcodes)


def _icons(*names: str, aliases: dict[str, str] | None = None) -> Icons:
    return Icons("v", 16, 16, {name: {"body": ""} for name in names}, by_codes={}, aliases=aliases or {})


def test_icons_without_a_table_are_found_by_label_then_by_shortcode() -> None:
    concepts = [
        _concept("1", "smiling face with sunglasses", "sunglasses"),
        _concept("2", "sunglasses", "dark_glasses"),
        _concept("3", "côte d’ivoire", "ci"),
        _concept("4", "face screaming", "scream", "screaming"),
        _concept("5", "unknown", "nothing"),
    ]
    icons = _icons("sunglasses", "cote-divoire", "screaming")
    assert icons.find(concepts) == {"2": "sunglasses", "3": "cote-divoire", "4": "screaming"}


def test_icons_under_another_name_are_the_same_drawing_and_belong_to_one_concept() -> None:
    icons = _icons("bear-face", aliases={"bear": "bear-face"})
    assert icons.find([_concept("1", "bear"), _concept("2", "bear face")]) == {"1": "bear-face"}


def test_icons_with_a_table_ignore_variation_selectors_and_names() -> None:
    icons = Icons("v", 16, 16, {"heart": {"body": ""}}, by_codes={"2764": "heart", "2765": "gone"})
    concepts = [_concept("2764-FE0F", "red heart"), _concept("2765", "heart")]
    assert icons.find(concepts) == {"2764-FE0F": "heart"}


def test_icons_of_both_kinds_of_vendor_give_the_same_captions(case: Callable[[str], Case]) -> None:
    with_table, without = case("emoji").plan(), case("emoji without a table").plan()
    assert [draft.turns[0].answer for draft in with_table] == [draft.turns[0].answer for draft in without]
    assert len(with_table) == 36 and with_table[0].facts["group"] == with_table[0].label == "animals"


def test_icons_keep_own_sizes_and_plain_aliases_only(tmp_path: Path) -> None:
    icons = read_icons(tiny.vendor(tmp_path / "v.tgz", "alpha"))
    assert icons.aliases == {"old-name": "thing-1"}
    assert 'viewBox="0 0 36 36"' in icons.svg("thing-1")
    own = Icons("v", 16, 16, {"wide": {"body": "", "left": 2, "width": 30}}, by_codes={})
    assert 'viewBox="2 0 30 16"' in own.svg("wide")


def test_icons_of_another_package_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no icons\.json"):
        read_icons(tiny.write_tgz(tmp_path / "x.tgz", {"package.json": b"{}"}))
    labels = tiny.write_tgz(tmp_path / "y.tgz", {"package.json": b"{}"})
    vendor = tiny.vendor(tmp_path / "v.tgz", "alpha")
    with pytest.raises(SourceError, match="no English labels"):
        Case("emoji", {"data": vendor, "labels": labels}).plan()
