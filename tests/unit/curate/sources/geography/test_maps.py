"""Maps: what is asked agrees with the painted pixels; countries are held out with all their maps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tiny_sources as tiny
from questions import asked
from reader_cases import Case

from components.curate.samples import Draft
from components.curate.sources.geography.maps import PAINTS, PLACES, WORDINGS, render
from components.errors import SourceError

SIDE = 180
"""Twice the tiny maps' own: what is enlarged has exact edges."""


def _pixels(draft: Draft) -> dict[str, npt.NDArray[np.intp]]:
    """Paint → y and x of its pixels, as shares of the side."""
    picture = np.asarray(render(draft.payload, SIDE)).astype(int)
    found = {name: np.argwhere((picture == np.array(tone)).all(axis=-1)) for name, tone in PAINTS.items()}
    return {name: places for name, places in found.items() if len(places)}


def test_maps_of_one_country_are_in_one_split(case: Callable[[str], Case]) -> None:
    for seed in range(5):
        splits: dict[str, set[str]] = {}
        for draft in case("maps").plan(seed=seed):
            country = draft.original_id.partition("/")[0].partition("_")[0]
            splits.setdefault(country, set()).add(draft.split)
        assert len(splits) == 12 and all(len(each) == 1 for each in splits.values())


def test_maps_answers_agree_with_the_painted_pixels(case: Callable[[str], Case]) -> None:
    answers = defaultdict[str, set[str]](set)
    for draft in case("maps").plan():
        pixels = _pixels(draft)
        middles = {name: places.mean(axis=0) / SIDE for name, places in pixels.items()}
        assert set(pixels) == {name for name in PAINTS if name in draft.facts}
        for kind, names, answer in asked(draft, WORDINGS):
            answers[kind].add(answer)
            if kind == "count":
                assert answer == str(len(pixels))
            elif kind == "where":
                y, x = middles[names[0]]
                assert PLACES[3 * int(y * 3) + int(x * 3)] == answer
            elif kind == "larger":
                assert max(names, key=lambda name: len(pixels[name])) == answer
            elif kind in ("left", "above"):
                one, other = (middles[name][int(kind == "left")] for name in names)
                assert (one < other) == (answer == "yes")
            else:
                (top, left), (bottom, right) = pixels[names[0]].min(axis=0), pixels[names[0]].max(axis=0) + 1
                expected = np.array([left, top, right, bottom]) / SIDE * 20
                assert np.abs(np.array(answer.split(), dtype=int) - expected).max() <= 1
    assert answers["count"] == {"1", "2", "3"} and answers["left"] == answers["above"] == {"yes", "no"}
    assert len(answers["where"]) > 5 and len(answers["larger"]) > 2 and len(answers["box"]) > 5


def test_maps_ask_names_only_with_knowledge_and_boxes_only_with_units(case: Callable[[str], Case]) -> None:
    plain = case("maps").plan(box_units=0)
    assert not any("box" in turn.question.lower() for draft in plain for turn in draft.turns)
    assert not any("Region" in turn.answer for draft in plain for turn in draft.turns)
    known = case("maps").plan(knowledge=True)
    answers = {turn.answer for draft in known for turn in draft.turns}
    assert any(answer.startswith("Region") for answer in answers)
    assert any(answer.startswith("Town") for answer in answers)
    assert "Drovia (Districts)" in answers


def test_maps_paint_no_region_smaller_than_asked(case: Callable[[str], Case]) -> None:
    areas = {
        float(value)
        for draft in case("maps").plan(min_area=0.055)
        for fact, value in draft.facts.items()
        if fact.endswith("area")
    }
    assert areas and min(areas) >= 0.055
    assert case("maps").plan(min_area=0.5) == []


def test_maps_that_are_damaged_are_left_out_and_none_at_all_is_an_error(
    case: Callable[[str], Case], tmp_path: Path
) -> None:
    assert not {"Lost", "broken"} & {draft.label for draft in case("maps").plan()}
    with pytest.raises(SourceError, match="no maps in it"):
        Case("maps", {"data": tiny.fortunes(tmp_path)}).plan()
