"""ARC: answers computed from the grids, and grids drawn as they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from questions import asked
from reader_cases import Case

from components.curate.samples import Draft
from components.curate.sources.packages.arc import WORDINGS, render
from components.curate.sources.packages.grids import CHANGES, PALETTE, Grid, changes_between, size_of
from components.errors import ConfigError


def _answers(draft: Draft) -> Mapping[str, tuple[str, str]]:
    """Kind of question → what it names, and its answer."""
    return {kind: ("".join(named), answer) for kind, named, answer in asked(draft, WORDINGS)}


def test_arc_takes_the_official_split_by_whole_tasks(case: Callable[[str], Case]) -> None:
    splits: dict[str, set[str]] = {}
    for draft in case("arc").plan():
        splits.setdefault(draft.original_id.partition("/")[0], set()).add(draft.split)
    assert all(len(each) == 1 for each in splits.values())
    assert {name for name, each in splits.items() if "test" in each} == {f"eval{n:03d}" for n in range(10)}


def test_arc_answers_about_a_grid_are_true_of_it(case: Callable[[str], Case]) -> None:
    names, checks = list(PALETTE), Counter[str]()
    for draft in case("arc").plan():
        if draft.label != "grid":
            continue
        (grid,) = draft.payload["grids"]
        cells = Counter(names[value] for row in grid for value in row)
        answers = _answers(draft)
        assert answers["colours"][1] == str(len(cells))
        if "rows" in answers:
            assert answers["rows"][1] == str(len(grid))
        if "columns" in answers:
            assert answers["columns"][1] == str(len(grid[0]))
        named, answer = answers["check"]
        assert (named in cells) == (answer == "yes")
        checks[answer] += 1
        if "cells" in answers:
            named, answer = answers["cells"]
            assert str(cells[named]) == answer
        if "most" in answers:
            named, answer = answers["most"]
            del cells[named]
            assert cells[answer] == max(cells.values())
    assert min(checks["yes"], checks["no"]) > 20


def test_arc_pairs_are_asked_for_what_is_new_or_how_they_changed(case: Callable[[str], Case]) -> None:
    mirrored = [draft for draft in case("arc").plan() if draft.original_id == "train000/pair0"]
    assert _answers(mirrored[0])["change"][1] == "mirrored left to right"
    sizes = {
        _answers(draft)["size"][1]
        for draft in case("arc").plan()
        if draft.label == "pair" and "size" in _answers(draft)
    }
    assert sizes == {"smaller", "same"}


def test_arc_never_asks_how_a_symmetric_grid_changed(case: Callable[[str], Case]) -> None:
    changed = [draft for draft in case("arc").plan(changes=9) if draft.label == "change"]
    assert changed
    for draft in changed:
        left, right = draft.payload["grids"]
        assert changes_between(left, right) == [draft.turns[0].answer]


def test_arc_picture_shows_the_grid_cell_by_cell(case: Callable[[str], Case]) -> None:
    draft = next(draft for draft in case("arc").plan() if draft.label == "grid")
    (grid,) = draft.payload["grids"]
    rows, columns = size_of(grid)
    picture = np.asarray(render(draft.payload, 64))
    cell = 63 // max(rows, columns)
    left, top = (64 - columns * cell) // 2, (64 - rows * cell) // 2
    for y, row in enumerate(grid):
        for x, value in enumerate(row):
            middle = picture[top + y * cell + cell // 2, left + x * cell + cell // 2]
            assert tuple(middle.tolist()) == list(PALETTE.values())[value]


def test_arc_options_choose_the_size_the_kinds_and_the_dataset(case: Callable[[str], Case]) -> None:
    small = case("arc").plan(max_side=4, pairs=False, changes=0)
    assert {draft.label for draft in small} == {"grid"}
    assert max(max(size_of(draft.payload["grids"][0])) for draft in small) == 4
    with pytest.raises(ConfigError, match="datasets it holds: arcagi_aa922be"):
        case("arc").plan(dataset="arc9")


GRIDS = st.integers(1, 6).flatmap(
    lambda columns: st.lists(st.tuples(*[st.integers(0, 9)] * columns), min_size=1, max_size=6).map(tuple)
)


@given(GRIDS)
def test_changes_undo_each_other_and_are_found_again(grid: Grid) -> None:
    assert CHANGES["rotated left"](CHANGES["rotated right"](grid)) == grid
    for name in ("turned upside down", "mirrored left to right", "mirrored top to bottom"):
        assert CHANGES[name](CHANGES[name](grid)) == grid
    for name, change in CHANGES.items():
        assert name in changes_between(grid, change(grid))
