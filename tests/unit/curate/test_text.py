"""Texts judged before drawing: each code has a text it finds and one it leaves alone."""

from __future__ import annotations

import pytest

from components.config import TextFilter
from components.curate.samples import Turn
from components.curate.text import find_text_problems, text_problem

QUESTION = "What does this drawing show?"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("a duck by frollandin@email.it", "email"),
        ("a duck @ the lake, 3.5 @ 2", ""),
        ("call +49 30 1234567", "phone"),
        ("call (555) 123-4567", "phone"),
        ("2004-08-25 23:29:46", ""),
        ("12 345 678 901", ""),
        (" \n", "empty_text"),
        ("ab", "text_length"),
        ("abc", ""),
        ("x" * 41, "text_length"),
    ],
)
def test_text_problem_is_named(answer: str, code: str) -> None:
    reason = text_problem((Turn(QUESTION, answer),), TextFilter(min_chars=3, max_chars=40))
    assert (reason.code if reason else "") == code


def test_personal_data_is_left_where_a_source_may_hold_it() -> None:
    turns = (Turn(QUESTION, "write to a@b.org"),)
    assert text_problem(turns, TextFilter(personal_data=False)) is None
    reason = text_problem(turns, TextFilter())
    assert reason is not None and reason.evidence == "a@b.org"


def test_boilerplate_is_an_answer_shared_up_to_numbers_within_a_source() -> None:
    filters = {"clip": TextFilter(max_repeats=2), "vqa": TextFilter()}
    icons = [("clip", (Turn(QUESTION, f"Icon set {n}"),)) for n in range(3)]
    rare = [("clip", (Turn(QUESTION, "a duck"),)), ("clip", (Turn(QUESTION, "A  duck"),))]
    elsewhere = [("vqa", (Turn("Is it red?", "yes"),)) for _ in range(9)]
    found = find_text_problems([*rare, *icons, *elsewhere], filters)
    assert {place: reason.code for place, reason in found.items()} == dict.fromkeys((2, 3, 4), "boilerplate")
    assert found[2].evidence == "3 times: Icon set 0"
