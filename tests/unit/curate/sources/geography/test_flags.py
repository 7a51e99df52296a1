"""Flags: what is known is asked of trained countries only, what is seen agrees with the pixels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import pytest
from questions import asked
from reader_cases import Case
from tiny_sources import STRIPES, write_tgz

from components.curate.samples import Draft
from components.curate.sources.geography.flags import POSITIONS, WORDINGS, render
from components.errors import ConfigError, SourceError


def _codes(draft: Draft) -> set[str]:
    last = draft.original_id.split("/")
    return set(last[-1].split("-")) if len(last) > 2 else {last[0]}


def test_flags_of_unseen_countries_are_in_no_other_split(case: Callable[[str], Case]) -> None:
    drafts = case("flags").plan()
    unseen = {code for draft in drafts if draft.group == "unseen_countries" for code in _codes(draft)}
    others = {code for draft in drafts if draft.group != "unseen_countries" for code in _codes(draft)}
    assert len(unseen) > 4 and not unseen & others
    names = {f"Land {code.upper()}" for code in unseen}
    assert not any(turn.answer in names for draft in drafts for turn in draft.turns)
    asked = case("flags").plan(ask_unseen_names=True)
    assert {turn.answer for draft in asked for turn in draft.turns} >= names


def test_flags_that_look_alike_go_together_and_are_not_named(case: Callable[[str], Case]) -> None:
    for seed in range(6):
        drafts = case("flags").plan(seed=seed)
        groups = {draft.group == "unseen_countries" for draft in drafts if _codes(draft) & {"aa", "ab"}}
        assert len(groups) == 1
        answers = {turn.answer for draft in drafts for turn in draft.turns}
        assert not answers & {"Land AA", "Land AB", "City AA", "City AB"}


def test_flags_leave_out_what_is_no_state_and_other_regions(case: Callable[[str], Case]) -> None:
    drafts = case("flags").plan(regions=["Northland"])
    assert {draft.facts["continent"] for draft in drafts if len(draft.payload["flags"]) == 1} == {""}
    assert not any(turn.answer == "Northland" for draft in drafts for turn in draft.turns)
    assert not any("af" in _codes(draft) for draft in drafts)
    assert any("af" in _codes(draft) for draft in case("flags").plan(independent=False))
    with pytest.raises(ConfigError, match="unknown region Eastland"):
        case("flags").plan(regions=["Eastland"])


def test_flags_answers_about_colours_agree_with_the_stripes(case: Callable[[str], Case]) -> None:
    answers = defaultdict[str, set[str]](set)
    for draft in case("flags").plan():
        stripes = [
            {name for name, code in STRIPES.items() if code in svg} for svg, _ in draft.payload["flags"]
        ]
        for kind, named, answer in asked(draft, WORDINGS):
            answers[kind].add(answer)
            if kind == "check":
                assert (named[0] in stripes[0]) == (answer == "yes")
            elif kind == "check_at":
                colour, place = sorted(named, key=POSITIONS.__contains__)
                assert (colour in stripes[POSITIONS.index(place)]) == (answer == "yes")
            elif kind == "count":
                assert str(sum(named[0] in each for each in stripes)) == answer
            elif kind == "only":
                assert [named[0] in each for each in stripes] == [place == answer for place in POSITIONS]
    assert answers["check"] == answers["check_at"] == {"yes", "no"}
    assert len(answers["count"]) > 3 and answers["only"] == set(POSITIONS)


def test_flags_places_agree_with_the_picture(case: Callable[[str], Case]) -> None:
    draft = next(d for d in case("flags").plan() if len(d.payload["flags"]) == 4 and d.split == "train")
    ((place,), name) = next(
        (named, answer) for kind, named, answer in asked(draft, WORDINGS) if kind == "country_at"
    )
    assert draft.facts[place] == name
    picture = render(draft.payload, 64)
    middle = (16 + 32 * ("right" in place), 16 + 32 * ("bottom" in place))
    first = draft.payload["flags"][POSITIONS.index(place)][0].split('fill="#')[2][:6]
    colour = picture.getpixel(middle)
    assert colour == tuple(int(first[at : at + 2], 16) for at in (0, 2, 4))


def test_flags_without_drawings_are_refused(case: Callable[[str], Case]) -> None:
    archives = case("flags").archives
    empty = write_tgz(archives["flags"].with_name("empty.tgz"), {"package.json": b"{}"})
    with pytest.raises(SourceError, match="missing"):
        Case("flags", {**archives, "flags": empty}, case("flags").options).plan()
