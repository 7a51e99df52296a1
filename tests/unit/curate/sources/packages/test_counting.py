"""Counting: as many copies as the answer says, of concepts that no other split counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from questions import asked
from reader_cases import Case

from components.curate.samples import Draft
from components.curate.sources.packages.counting import COLUMNS, WORDINGS, render


def _concepts(draft: Draft) -> set[str]:
    return set(draft.original_id.rpartition("/")[2].split("+"))


def test_counting_answers_are_the_copies_in_the_picture(case: Callable[[str], Case]) -> None:
    kinds = Counter[str]()
    for draft in case("counting").plan():
        copies = Counter(which for which, _, _ in draft.payload["copies"])
        names = list(draft.facts)[: len(draft.payload["svgs"])]
        for kind, named, answer in asked(draft, WORDINGS):
            kinds[kind] += 1
            if kind == "count":
                assert answer == str(copies[names.index(named[0])]) == draft.facts[named[0]]
            elif kind == "total":
                assert answer == str(sum(copies.values()))
            else:
                assert set(named) == set(names)
                assert answer == max(names, key=lambda name: copies[names.index(name)])
    assert min(kinds["count"], kinds["total"], kinds["more"]) > 20


def test_counting_draws_every_copy_in_a_cell_of_its_own(case: Callable[[str], Case]) -> None:
    for draft in case("counting").plan()[:20]:
        cells = {(int(x * COLUMNS), int(y * COLUMNS)) for _, x, y in draft.payload["copies"]}
        assert len(cells) == len(draft.payload["copies"])
        picture = render(draft.payload, 60).convert("L").point(lambda value: 255 * (value < 250))
        filled = {
            (x, y)
            for x in range(COLUMNS)
            for y in range(COLUMNS)
            if picture.crop((20 * x + 3, 20 * y + 3, 20 * x + 17, 20 * y + 17)).getbbox()
        }
        assert filled == cells


def test_counting_holds_concepts_out_and_mixes_subgroups_only(case: Callable[[str], Case]) -> None:
    counted = {
        split: {
            name for draft in case("counting").plan() if draft.split == split for name in _concepts(draft)
        }
        for split in ("train", "validation", "test")
    }
    assert not counted["train"] & (counted["validation"] | counted["test"])
    for draft in case("counting").plan():
        assert len({int(name.removeprefix("thing-")) % 6 for name in _concepts(draft)}) == len(
            _concepts(draft)
        )


def test_counting_of_a_held_out_vendor_is_all_test(case: Callable[[str], Case]) -> None:
    drafts = case("counting").plan(held_out=True)
    assert {(draft.split, draft.group) for draft in drafts} == {("test", "unseen_vendor")}
    unseen = {name for draft in case("counting").plan() if draft.split == "test" for name in _concepts(draft)}
    assert not unseen & {name for draft in drafts for name in _concepts(draft)}
