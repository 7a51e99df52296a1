"""Grounding: what can be derived from facts and OCR text, and what cannot."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.config.annotate import QualityConfig
from components.curate.annotate import AnnotationInput
from components.curate.annotate.grounding import Grounds, grounding_problem
from components.curate.annotate.quantities import Quantity, find_quantities
from components.curate.samples import Turn

FACTS = {
    "country": "Germany",
    "capital": "Berlin",
    "population": "83294633",
    "area_km2": "357114",
    "share_of_forest": "0.3274",
    "currency": "Euro",
    "borders": '["Denmark", "Poland", "Czechia", "Austria"]',
    "sizes": '{"length": "12 km"}',
    "ocr_text": "Grand Hotel\nNO ENTRY\nOpen 9:00 to 18:30\nRooms from 89.50 EUR\n入口禁止",
    "ocr_boxes": '[[777, 778, 779, 780, "Grand Hotel", 0.99]]',
}
GROUNDS = Grounds.of(AnnotationInput("a", None, facts=FACTS, label="flag"))


def code(question: str, answer: str, **fields: str | float) -> str:
    problem = grounding_problem(Turn(question, answer), GROUNDS, QualityConfig.model_validate(fields))
    return problem.code if problem is not None else ""


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is the capital?", "Berlin"),
        ("What is the capital?", "The capital: berlin."),
        ("What is the capital?", "The capital of Germany is Berlin."),
        ("What is written at the top?", "grand hotel"),
        ("What does the sign say?", "No entry"),
        ("Where is it?", "Berlin, Germany"),
        ("Which countries border it?", "Austria, Poland and Denmark"),
        ("How many people live there?", "83.3 million"),
        ("How many people live there?", "About 83,000,000 people"),
        ("How large is it?", "357,114 km²"),
        ("How large is it?", "357 thousand square kilometres"),
        ("How much of it is forest?", "32.74%"),
        ("How much of it is forest?", "33 %"),
        ("How long is it?", "12,000 m"),
        ("What does a room cost?", "89.50 EUR"),
        ("What does a room cost?", "89.5"),
        ("How many neighbours does it have in borders?", "four"),
        ("How many lines of text are there?", "5"),
        ("When does it open?", "9:00"),
        ("What does it say in Chinese?", "入口"),
        ("What is it?", "a flag"),
        ("Is the capital Berlin?", "yes"),
        ('Does the sign say "grand hotel"?', "Yes, it does."),
        ("Is the capital Munich?", "no"),
        ("Does a room cost 100?", "No."),
        ("Tell me about the hotel.", "The Grand Hotel is open and has rooms from 89.50 EUR in Germany."),
    ],
)
def test_derivable_answer_is_grounded(question: str, answer: str) -> None:
    assert code(question, answer) == ""


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        ("What is the capital?", "Munich", "ungrounded"),
        ("What is the capital?", "Ber", "ungrounded"),
        ("What is the capital?", "The capital.", "ungrounded"),
        ("Where is it?", "Berlin, Poland, Spain", "ungrounded"),
        ("What does the sign say?", "Entry Grand", "ungrounded"),
        ("How many people live there?", "84 million", "ungrounded_number"),
        ("How many people live there?", "83,294,634", "ungrounded_number"),
        ("How large is it?", "357,114 kg of gold", "ungrounded"),
        ("How much of it is forest?", "3274%", "ungrounded_number"),
        ("How long is it?", "12 m", "ungrounded_number"),
        ("How many neighbours does it have in borders?", "five", "ungrounded_number"),
        ("How many pixels?", "777", "ungrounded_number"),
        ("Is the capital Munich?", "yes", "ungrounded"),
        ("Is the capital Berlin?", "no", "ungrounded"),
        ("Is Berlin larger than Denmark?", "yes", "unverifiable"),
        ("Is it nice?", "yes", "unverifiable"),
        (
            "Tell me more.",
            "The weather is lovely and many tourists enjoy ice cream near the lake.",
            "ungrounded",
        ),
        (
            "Tell me about the hotel.",
            "The Grand Hotel is open and has 42 rooms from 89.50 EUR.",
            "ungrounded_number",
        ),
        (
            "Tell me about the big old tower here.",
            "It is about the big old tower that is here, the tower.",
            "ungrounded",
        ),
    ],
)
def test_answer_that_cannot_be_derived_is_rejected(question: str, answer: str, expected: str) -> None:
    assert code(question, answer) == expected


def test_facts_that_say_what_is_not_there_ground_nothing() -> None:
    facts = {"colours": "red, white", "no colours": "green", "top left, no_colours": "blue"}
    grounds = Grounds.of(AnnotationInput("a", None, facts=facts))
    for colour, expected in (("red", None), ("green", "ungrounded"), ("blue", "ungrounded")):
        problem = grounding_problem(Turn("Which colour is in it?", colour), grounds, QualityConfig())
        assert (problem.code if problem else None) == expected


def test_unverifiable_yes_is_kept_where_config_says_so() -> None:
    assert code("Is it nice?", "yes", unverifiable="keep") == ""
    assert code("Is the capital Munich?", "yes", unverifiable="keep") == "ungrounded"


def test_coverage_decides_how_much_of_a_sentence_may_be_unknown() -> None:
    sentence = "The Grand Hotel has lovely rooms from 89.50 EUR and is open in Germany"
    assert code("Tell me.", sentence) == ""
    assert code("Tell me.", sentence, min_coverage=1.0) == "ungrounded"


@given(st.integers(-(10**9), 10**9), st.sampled_from(["", " km", " million", " %", " kg", " s"]))
def test_quantity_is_supported_by_itself_however_it_is_written(number: int, unit: str) -> None:
    for text in (f"{number}{unit}", f"{number:,}{unit}"):
        (quantity,) = find_quantities(text)
        assert quantity.supported_by(quantity)
        assert quantity.supported_by(find_quantities(f"{number}{unit}")[0])


@given(st.decimals("0.001", "1000000", places=3), st.integers(0, 2))
def test_quantity_is_supported_by_what_it_is_rounded_from_and_not_the_other_way(
    exact: Decimal, places: int
) -> None:
    rounded = round(exact, places)
    (short,), (long,) = find_quantities(str(rounded)), find_quantities(str(exact))
    if abs(rounded - exact) <= exact / 20:
        assert short.supported_by(long)
    if rounded != exact:
        assert not long.supported_by(short)


@given(st.text(alphabet="0123456789.,eE-+ kKmM%$€twothree", max_size=60))
def test_quantities_of_any_text_are_finite(text: str) -> None:
    for quantity in find_quantities(text):
        assert quantity.value.is_finite() and quantity.step > 0


@pytest.mark.parametrize(
    ("text", "value", "step"),
    [
        ("67.4 million", "67400000", "100000"),
        ("twenty-one dogs", "21", "1"),
        ("two hundred", "200", "100"),
        ("about 1,200", "1200", "100"),
        ("-3 °C", "-3", "1"),
        ("the 3rd man", "3", "1"),
        ("one", "1", "1"),
        ("costs $4.50.", "4.50", "0.01"),
    ],
)
def test_quantity_is_read_with_its_scale_and_precision(text: str, value: str, step: str) -> None:
    (quantity,) = find_quantities(text)
    assert (quantity.value, quantity.step) == (Decimal(value), Decimal(step))


@pytest.mark.parametrize("text", ["which one is it", "A4 paper", "1,23", "H2O", "", "v1.2.3"])
def test_what_is_no_quantity_is_not_read_as_one(text: str) -> None:
    assert find_quantities(text) == []


def test_quantities_of_different_dimensions_do_not_support_each_other() -> None:
    kilometres, kilograms, plain = (find_quantities(text)[0] for text in ("5 km", "5 kg", "5"))
    assert not kilometres.supported_by(kilograms)
    assert kilometres.supported_by(plain) and isinstance(plain, Quantity)
    assert kilometres.supported_by(find_quantities("5000 m")[0])
    assert not kilometres.supported_by(find_quantities("5000 kg")[0])
