"""Captioned figures: titles without numbers, legends, and pages held out whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import tiny_sources as tiny
from reader_cases import Case

from components.curate.samples import Draft
from components.curate.sources.packages.screenshots import find_figures


def _by_id(drafts: list[Draft]) -> dict[str, Draft]:
    return {draft.original_id: draft for draft in drafts}


def test_screenshots_take_the_title_without_its_number(case: Callable[[str], Case]) -> None:
    drafts = _by_id(case("screenshots").plan())
    menu = drafts["page-7/menus/7.png"]
    assert [turn.answer for turn in menu.turns] == ["Menu 7"]
    assert menu.label == "menus" and menu.facts["page"] == "Page 7"


def test_screenshots_put_the_legend_in_a_second_turn_or_behind_a_shared_title(
    case: Callable[[str], Case],
) -> None:
    drafts = _by_id(case("screenshots").plan())
    assert [turn.answer for turn in drafts["page-4/dialogs/4.png"].turns] == ["Dialog 4", "Open 4."]
    assert [turn.answer for turn in drafts["page-4/using/4-a.png"].turns] == ["Filter 4: Before"]
    assert [turn.answer for turn in drafts["page-4/using/4-b.png"].turns] == ["Filter 4: After"]


def test_screenshots_of_a_page_stay_together_and_a_shared_picture_is_one_sample(
    case: Callable[[str], Case],
) -> None:
    drafts = case("screenshots").plan()
    splits: dict[str, set[str]] = {}
    for draft in drafts:
        splits.setdefault(draft.original_id.partition("/")[0], set()).add(draft.split)
    assert len(splits) == 30 and all(len(each) == 1 for each in splits.values())
    assert [draft.original_id for draft in drafts if draft.original_id.endswith("all.png")] == [
        "page-0/using/all.png"
    ]


def test_screenshots_leave_out_ambiguous_titles_lost_pictures_and_long_captions(
    case: Callable[[str], Case],
) -> None:
    names = [draft.original_id.rpartition("/")[2] for draft in case("screenshots").plan()]
    assert len(names) == 30 * 4 + 1 and not set(names) & {"ambiguous.png", "lost.png"}
    short = {draft.original_id.rpartition("/")[2] for draft in case("screenshots").plan(max_chars=8)}
    assert "3.png" in short and "3-a.png" not in short


def test_screenshots_load_the_very_bytes_of_the_package(tmp_path: Path) -> None:
    found = Case("screenshots", {"data": tiny.manual(tmp_path)})
    draft = _by_id(found.plan())["page-0/menus/0.png"]
    load = found.reader.load
    assert load is not None and load(draft.payload).startswith(b"\x89PNG")


def test_figures_of_a_broken_page_are_none() -> None:
    assert list(find_figures("x/page.html", b"<html><div class='figure'>")) == []
