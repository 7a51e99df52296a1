"""What holds for every reader: fixed order, splits with named groups, facts, pictures that can be drawn."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable

import pytest
from PIL import Image
from reader_cases import CASES, Case

from components.curate.sources import Share

GROUPS = {
    "fashion": {"official_test"},
    "flags": {"unseen_drawings", "unseen_countries"},
    "maps": {"unseen_maps"},
    "arc": {"official_evaluation"},
    "screenshots": {"unseen_pages"},
    "emoji": {"unseen_concept"},
    "emoji without a table": {"unseen_concept"},
    "counting": {"unseen_concept"},
    "wordnet": {"unseen_topics"},
    "wordnet, drawn": {"unseen_words", "unseen_fonts"},
}
DRAWN, ASKED = {"unseen_documents", "unseen_fonts"}, {"unseen_documents"}


@pytest.mark.parametrize("name", CASES)
def test_reader_gives_all_splits_named_groups_and_facts(case: Callable[[str], Case], name: str) -> None:
    drafts = case(name).plan()
    assert {draft.split for draft in drafts} == {"train", "validation", "test"}
    expected = GROUPS.get(name, DRAWN if name.endswith("drawn") else ASKED)
    assert {draft.group for draft in drafts if draft.split == "test"} == expected
    assert all((draft.group == "") == (draft.split != "test") for draft in drafts)
    assert all(turn.question.strip() and turn.answer.strip() for draft in drafts for turn in draft.turns)
    assert all(draft.turns and draft.facts for draft in drafts)
    assert len({draft.original_id for draft in drafts}) == len(drafts)


@pytest.mark.parametrize("name", CASES)
def test_reader_plans_the_same_again_and_differs_with_the_seed(
    case: Callable[[str], Case], name: str
) -> None:
    assert case(name).plan() == case(name).plan()
    assert case(name).plan(seed=1) != case(name).plan()


@pytest.mark.parametrize("name", CASES)
def test_reader_options_are_all_declared_with_their_types(case: Callable[[str], Case], name: str) -> None:
    options = case(name).reader.options
    assert {option: type(value) for option, value in case(name).options.items()} == {
        option: float if options[option] is Share else options[option] for option in case(name).options
    }
    assert set(case(name).reader.locators) == set(case(name).archives) - {"data"}


@pytest.mark.parametrize("name", CASES)
def test_reader_draws_every_sample_after_a_trip_to_another_process(
    case: Callable[[str], Case], name: str
) -> None:
    reader = case(name).reader
    for draft in case(name).plan()[::7]:
        payload = pickle.loads(pickle.dumps(draft.payload))
        if not payload:
            assert name in ("wordnet", "fortunes", "mallard", "office", "chatterbot")
            continue
        if reader.load is not None:
            picture = Image.open(io.BytesIO(reader.load(payload))).convert("RGB")
        else:
            assert reader.render is not None
            picture = reader.render(payload, 64)
            assert picture.size == (64, 64) and picture.mode == "RGB"
            assert picture.tobytes() == reader.render(draft.payload, 64).tobytes()
        assert any(low < high for low, high in picture.getextrema())  # type: ignore[misc]
