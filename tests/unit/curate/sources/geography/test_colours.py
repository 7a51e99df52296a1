"""Colours: present and absent are said only where the pixels leave no doubt."""

from __future__ import annotations

import pytest
from PIL import Image

from components.curate.sources.geography.colours import COLOURS, absent, measure_colours, present

SURE = {
    (206, 17, 38): "red",
    (255, 130, 0): "orange",
    (255, 222, 0): "yellow",
    (0, 140, 69): "green",
    (0, 56, 168): "blue",
    (10, 10, 10): "black",
    (255, 255, 255): "white",
}


@pytest.mark.parametrize(("tone", "name"), SURE.items())
def test_colours_of_one_tone_are_that_colour_and_no_other(tone: tuple[int, int, int], name: str) -> None:
    shares = measure_colours(Image.new("RGB", (20, 20), tone))
    assert [colour for colour in COLOURS if present(shares[colour])] == [name]
    assert absent(shares[name]) is False


@pytest.mark.parametrize("tone", [(128, 10, 20), (120, 200, 240), (150, 150, 150), (240, 180, 60)])
def test_colours_that_people_would_argue_about_are_not_decided(tone: tuple[int, int, int]) -> None:
    shares = measure_colours(Image.new("RGB", (20, 20), tone))
    assert not any(present(shares[colour]) for colour in COLOURS)


def test_colours_of_a_small_part_are_neither_present_nor_absent() -> None:
    drawing = Image.new("RGB", (100, 100), "white")
    drawing.paste((206, 17, 38), (0, 0, 20, 10))  # two of a hundred
    shares = measure_colours(drawing)
    assert not present(shares["red"]) and not absent(shares["red"])
    assert absent(shares["blue"]) and present(shares["white"])
