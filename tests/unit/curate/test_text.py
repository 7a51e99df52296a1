"""Texts judged before drawing: each code has a text it finds and one it leaves alone."""

from __future__ import annotations

import pytest

from components.config.text import DocumentRules, RepetitionRules, TextFilter
from components.curate.samples import Turn
from components.curate.text import CHECKS, find_text_problems, redact_turns, screen_texts, text_problem

QUESTION = "What does this drawing show?"


def turns(answer: str, question: str = QUESTION) -> tuple[Turn, ...]:
    return (Turn(question, answer),)


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
        ("a cat<|im_end|>", "special_token"),
        ("a \u202ecat", "control_character"),
        ("a cafÃ© in Rome", "mojibake"),
        ("<b>cat</b>", "markup"),
        ("~~~###===>>> a", "symbols"),
        ("IMG_2034.JPG", "boilerplate"),
        ("tree tree tree tree tree lake", "repetition"),
        ("this is shit", "profanity"),
        ("a street in Scunthorpe", ""),
    ],
)
def test_text_problem_is_named(answer: str, code: str) -> None:
    reason = text_problem(turns(answer), TextFilter(min_chars=3, max_chars=40))
    assert (reason.code if reason else "") == code


@pytest.mark.parametrize(
    ("answer", "off"),
    [
        ("a cat<|im_end|>", {"special_tokens": False}),
        ("a cafÃ©", {"characters": False}),
        ("<b>cat</b>", {"max_markup": 1.0}),
        ("~~~###===>>> a", {"max_symbols": 1.0}),
        ("IMG_2034.JPG", {"boilerplate": False}),
        ("this is shit", {"profanity": False}),
        ("this is shit", {"allowed_words": ("Shit",)}),
        ("write to a@b.org", {"personal_data": "keep"}),
        ("write to a@b.org", {"personal_data": "redact"}),
        ("write to a@b.org", {"personal_kinds": ("phone", "ssn")}),
        ("tree tree tree tree tree lake", {"repetition": RepetitionRules(word_share=1.0)}),
    ],
)
def test_check_finds_nothing_where_a_source_switches_it_off(answer: str, off: dict[str, object]) -> None:
    assert text_problem(turns(answer), TextFilter()) is not None
    assert text_problem(turns(answer), TextFilter.model_validate(off)) is None


@pytest.mark.parametrize(
    ("answer", "on", "code"),
    [
        ("a heron", {"profane_words": ("heron",)}, "profanity"),
        ("seen on our site today", {"boilerplate_phrases": ("on our site",)}, "boilerplate"),
        ("see [REDACTED_1]", {"extra_special_tokens": ("[REDACTED_1]",)}, "special_token"),
        ("a duck", {"document": DocumentRules()}, "document"),
        (
            "Der Hund läuft über die Straße und bellt den Briefträger an, der gerade kommt.",
            {"languages": ("en",)},
            "language",
        ),
    ],
)
def test_check_finds_more_where_a_source_asks_for_it(answer: str, on: dict[str, object], code: str) -> None:
    assert text_problem(turns(answer), TextFilter()) is None
    reason = text_problem(turns(answer), TextFilter.model_validate(on))
    assert reason is not None and reason.code == code


def test_language_of_a_short_text_is_not_guessed() -> None:
    wanted = TextFilter(languages=("en",), language_min_chars=200)
    assert text_problem(turns("Der Hund läuft über die Straße und bellt den Briefträger an."), wanted) is None


def test_questions_are_judged_too() -> None:
    reason = text_problem(turns("a duck", question="<image>What is it?"), TextFilter())
    assert reason is not None and (reason.code, reason.evidence) == ("special_token", "<image>")


def test_sample_without_turns_is_empty_unless_an_annotator_adds_some() -> None:
    samples = [("clips", ()), ("clips", turns(" ")), ("emoji", ())]
    filters = {"clips": TextFilter(), "emoji": TextFilter()}
    found = find_text_problems(samples, filters, may_be_empty={"clips"})
    assert {place: reason.code for place, reason in found.items()} == dict.fromkeys((1, 2), "empty_text")
    assert text_problem((), TextFilter(), may_be_empty=True) is None


def test_boilerplate_is_an_answer_shared_up_to_numbers_within_a_source() -> None:
    filters = {"clip": TextFilter(max_repeats=2), "vqa": TextFilter()}
    icons = [("clip", turns(f"Icon set {n}")) for n in range(3)]
    rare = [("clip", turns("a duck")), ("clip", turns("A  duck"))]
    elsewhere = [("vqa", turns("yes", "Is it red?")) for _ in range(9)]
    found = find_text_problems([*rare, *icons, *elsewhere], filters)
    assert {place: reason.code for place, reason in found.items()} == dict.fromkeys((2, 3, 4), "boilerplate")
    assert found[2].evidence == "3 times: Icon set 0"


def test_screening_counts_what_every_check_got_and_left() -> None:
    samples = [("a", turns(answer)) for answer in ("a duck", "x", "mail a@b.org", "a goose", "")] + [
        ("a", ())
    ]
    screened = screen_texts(samples, {"a": TextFilter(min_chars=2)})
    assert {place: reason.code for place, reason in screened.problems.items()} == {
        1: "text_length",
        2: "email",
        4: "empty_text",
        5: "empty_text",
    }
    assert [step.name for step in screened.steps] == [*CHECKS, "repeats"]
    counts = {step.name: (step.num_in, step.num_out) for step in screened.steps}
    assert counts["length"] == (6, 3)
    assert counts["personal_data"] == (3, 2)
    assert counts["repeats"] == (2, 2)


def test_redaction_leaves_a_text_that_is_kept() -> None:
    wanted = TextFilter(personal_data="redact")
    found = redact_turns(turns("call +49 30 1234567", question="Who is a@b.org?"), wanted)
    assert found == (Turn("Who is email@example.com?", "call +1 202-555-0100"),)
    assert text_problem(found, TextFilter()) is None
    unchanged = turns("a@b.org")
    assert redact_turns(unchanged, TextFilter()) is unchanged


def test_text_of_megabytes_is_rejected_unread() -> None:
    reason = text_problem(turns("a", question="a@" * (1 << 20)), TextFilter())
    assert reason is not None and reason.code == "text_length"


def test_text_filter_whose_limits_cross_is_refused() -> None:
    with pytest.raises(ValueError, match="min_chars"):
        TextFilter(min_chars=5, max_chars=4)


@pytest.mark.parametrize(
    ("wanted", "evidence"),
    [
        (TextFilter(), None),
        (TextFilter(max_question_chars=20), "a question of 24 characters"),
        (TextFilter(max_sample_chars=100), "characters in all"),
    ],
)
def test_long_questions_and_samples_are_rejected_one_by_one(wanted: TextFilter, evidence: str | None) -> None:
    turns = tuple(Turn(f"what is the number of {each}?", "seven") for each in "abcd")
    reason = text_problem(turns, wanted)
    assert (reason is None) if evidence is None else (reason is not None and evidence in reason.evidence)
