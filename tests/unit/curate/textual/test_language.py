"""The language of texts long enough to tell."""

from __future__ import annotations

import pytest

from components.curate.textual.language import find_other_language, known_languages

ENGLISH = "The dog runs across the street and barks at the postman, who has just arrived with a parcel."
DANISH = "Hunden løber over gaden og gør ad postbuddet, der netop er kommet med en pakke til naboen."
GERMAN = "Der Hund läuft über die Straße und bellt den Briefträger an, der gerade mit einem Paket kommt."


@pytest.mark.parametrize(
    ("text", "wanted", "found"),
    [
        (ENGLISH, ("en",), ""),
        (GERMAN, ("en",), "de"),
        (GERMAN, ("en", "de"), ""),
        (DANISH, ("no", "nb", "da"), ""),
        (DANISH, ("en",), "da"),
        ("3.14159 2.71828 1.61803 0.57721 1.41421 1.73205", ("en",), ""),
        ("", ("en",), ""),
    ],
)
def test_other_language_is_named(text: str, wanted: tuple[str, ...], found: str) -> None:
    assert find_other_language(text, wanted, confidence=0.8)[:2] == found


def test_confidence_decides_how_sure_is_sure_enough() -> None:
    mixed = "The dog. Der Hund bellt. Cat and mouse, Katze."
    assert find_other_language(mixed, ("fr",), confidence=1.0) == ""


def test_languages_are_iso_639_codes() -> None:
    assert {"en", "de", "zh", "ar"} <= known_languages()
