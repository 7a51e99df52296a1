"""Profanity: strong words whatever their spelling, and none of the ordinary words that look like them."""

from __future__ import annotations

import pytest

from components.curate.textual.profanity import find_profanity


@pytest.mark.parametrize(
    "text",
    [
        "Fuck this",
        "what a sh1t day",
        "f-u-c-k",
        "s.h.i.t",
        "a blow job",
        "B1TCH!",
        "fuck_off",
        "motherfuckers",
    ],
)
def test_profanity_is_found_whatever_its_spelling(text: str) -> None:
    assert find_profanity(text) != ""


@pytest.mark.parametrize(
    "text",
    [
        "Scunthorpe, Penistone and Sussex",
        "a cock and a hen, a blue tit, an ass, pussy willow",
        "shiitake mushrooms, a spick-and-span kitchen, Dick Cheney",
        "god save the rum pot, seaman",
        "the 455 and the 5417 bus",
        "a-b-c-d, e.g. i.e. U.S.A.",
        "assassin, classic, therapist, cocktail, analysis",
        "",
    ],
)
def test_profanity_is_not_seen_in_ordinary_words(text: str) -> None:
    assert find_profanity(text) == ""


def test_words_are_added_and_allowed_by_name() -> None:
    assert find_profanity("a Grand Heron", extra=("grand heron",)) == "grand heron"
    assert find_profanity("a porn site") == "porn"
    assert find_profanity("a porn site", allowed=("Porn",)) == ""
