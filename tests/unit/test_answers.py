"""The exact-match rule: what it forgives and what it does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.answers import is_correct, normalise


@pytest.mark.parametrize(
    ("prediction", "answer"),
    [
        ("Yes.", "yes"),
        (" the  red circle ", "red circle"),
        ("Rectangle!", "a rectangle"),
        ("1,200", "1200"),
        ("−3.5", "-3.5"),
        ("A", "a"),
        ("smiling face: open-mouth", "smiling face open mouth"),
        ("2-5", "2-5"),
    ],
)
def test_is_correct_same_meaning_is_true(prediction: str, answer: str) -> None:
    assert is_correct(prediction, answer)


@pytest.mark.parametrize(
    ("prediction", "answer"),
    [("15", "1.5"), ("3", "-3"), ("blue", "red"), ("", "yes"), ("", ""), ("...", "!"), ("1 2", "12")],
)
def test_is_correct_other_meaning_is_false(prediction: str, answer: str) -> None:
    assert not is_correct(prediction, answer)


@given(st.text())
def test_normalise_twice_changes_nothing(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@given(st.from_regex(r"[0-9]{1,12}", fullmatch=True), st.from_regex(r"[0-9]{1,12}", fullmatch=True))
def test_is_correct_digit_strings_exactly(one: str, other: str) -> None:
    assert is_correct(one, other) == (one == other)
