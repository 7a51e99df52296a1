"""Answers that are no captions, and answers that only look short."""

from __future__ import annotations

import pytest

from components.curate.textual.boilerplate import find_boilerplate


@pytest.mark.parametrize(
    "answer",
    [
        "IMG_2034.JPG",
        "dsc01234",
        "Screenshot 2024-01-05 at 10.11.12",
        "help-books-aj.svg",
        "Untitled",
        "untitled document 3",
        "No description",
        "Your caption here",
        "Image may contain: one person, tree",
        "As an AI language model, I cannot see",
        "Royalty-free image of a lake",
        "Lorem ipsum dolor sit amet",
    ],
)
def test_boilerplate_is_found(answer: str) -> None:
    assert find_boilerplate(answer) != ""
    assert find_boilerplate(answer, known=False) == ""


@pytest.mark.parametrize(
    "answer",
    ["photo", "a photo of a dog", "image 3", "none", "unknown", "P2", "todos los santos", "a pict", "no"],
)
def test_boilerplate_is_not_seen_in_answers(answer: str) -> None:
    assert find_boilerplate(answer) == ""


def test_phrases_of_a_source_are_found_whatever_their_case() -> None:
    assert find_boilerplate("Made by ACME Clip Art", ("acme clip art",)) == "acme clip art"
