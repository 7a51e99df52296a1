"""Validation of new turns: each rule fed something bad and something good."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.config.annotate import ConsistencyConfig, QualityConfig
from components.config.text import DocumentRules, TextFilter
from components.curate.annotate import AnnotationInput, Proposed
from components.curate.annotate.consistency import (
    Same,
    consistency_problem,
    same_meaning,
    same_text,
)
from components.curate.annotate.proposals import Method
from components.curate.annotate.validate import (
    format_problem,
    leak_problem,
    reason_counts,
    refusal_problem,
    timestamp_problem,
    validate,
)
from components.curate.samples import Reason, Turn

CONFIG = QualityConfig(max_question_chars=60, max_answer_chars=80)


def code(reason: Reason | None) -> str:
    return reason.code if reason is not None else ""


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        ("What is it?", "a dog", ""),
        ("What does it say?", "I cannot {see}", ""),
        ("What is it?", " ", "empty"),
        ("", "a dog", "empty"),
        ("What is it?", "x" * 81, "too_long"),
        ("What is it, " + "x" * 60, "a dog", "too_long"),
        ("What is it?", "What is it?", "echo"),
        ("What is the capital of France?", "what is the capital of France: Paris", "echo"),
        ("What is it?", "a \x00 dog", "bad_characters"),
        ("What is \ud800 it?", "a dog", "bad_characters"),
        ("What is it?", "a \ufffd dog", "bad_characters"),
        ("What does it say?", "two\nlines\tof text", ""),
    ],
)
def test_format_rules(question: str, answer: str, expected: str) -> None:
    assert code(format_problem(Turn(question, answer), CONFIG)) == expected


@pytest.mark.parametrize(
    "answer",
    [
        "I cannot see the picture.",
        "I'm sorry, but there is no text.",
        "I am unable to help with that",
        "As an AI language model, I think it is red.",
        "It cannot be determined from the picture.",
        "The image does not show a person.",
        "Unknown",
        "N/A.",
        "not specified",
        "No image was provided",
        "It is impossible to tell.",
        "I don’t know",
    ],
)
def test_refusals_are_found(answer: str) -> None:
    assert code(refusal_problem(Turn("What is it?", answer))) == "refusal"


@pytest.mark.parametrize(
    "answer",
    ["red", "a can of beans", "No entry", "The unknown soldier", "none of the above is red",
     "He does not smile", "nine", "Canada", "no", "The sorry state of things"],
)  # fmt: skip
def test_answers_that_only_sound_like_refusals_are_kept(answer: str) -> None:
    assert refusal_problem(Turn("What is it?", answer)) is None


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        ("What colour is the red car?", "red", "given_away"),
        ("Is the car red or blue?", "red", ""),
        ("Is yes written on it?", "yes", ""),
        ("What colour is the car?", "red", ""),
        ("According to the metadata, who made it?", "a painter", "mentions_prompt"),
        ("Who made it?", "The OCR text says a painter", "mentions_prompt"),
        ("Who made it?", "[insert name]", "placeholder"),
        ("Who made {it}?", "a painter", "placeholder"),
        ("Who is a documentarian?", "she", ""),
    ],
)
def test_turns_that_leak_the_prompt_or_the_answer(question: str, answer: str, expected: str) -> None:
    assert code(leak_problem(Turn(question, answer))) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("At 00:12 a dog runs in.", ""),
        ("At 1:00 the clip ends.", ""),
        ("from 00:10 to 00:20", ""),
        ("00:05 - 0:59.5", ""),
        ("It waits for 60 seconds.", ""),
        ("a dog and 3 cats", ""),
        ("At 01:01 a dog runs in.", "timestamp_outside"),
        ("At 1:00:00 it ends", "timestamp_outside"),
        ("after 61 s", "timestamp_outside"),
        ("at second 75", "timestamp_outside"),
        ("from 00:20 to 00:10", "timestamp_order"),
        ("at 00:20, and before that 00:10", ""),
        ("at 5 minutes", "timestamp_outside"),
        ("after 3m20s", "timestamp_outside"),
        ("after 1 min 5 sec", "timestamp_outside"),
        ("1 minute and 1 second in", "timestamp_outside"),
        ("about 1 hour later", "timestamp_outside"),
        ("a 2h 5m run", "timestamp_outside"),
        ("at minute 2", "timestamp_outside"),
        ("from 50 s to 0m10s", "timestamp_order"),
        ("after 1 minute", ""),
        ("after 0.5 min", ""),
        ("0m59s", ""),
        ("a wall of 300 m", ""),
        ("at 90 km/h", ""),
        ("a car of the 1990s", ""),
        ("200 m 3 times", ""),
    ],
)
def test_timestamps_lie_inside_their_clip_in_order(text: str, expected: str) -> None:
    assert code(timestamp_problem(text, 60.0)) == expected


@given(st.floats(0, 86_400), st.floats(1, 86_400))
def test_timestamp_is_outside_exactly_when_it_is_later_than_the_clip_is_long(
    at: float, length: float
) -> None:
    text = f"{int(at) // 3600}:{int(at) % 3600 // 60:02d}:{int(at) % 60:02d}"
    assert code(timestamp_problem(text, length)) == ("timestamp_outside" if int(at) > length else "")


def test_time_in_the_question_lies_inside_the_clip_too() -> None:
    clip = AnnotationInput("a", None, facts={"duration_s": "20"})
    proposed = [
        Proposed(Turn("What happens at 1:30?", "a dog barks"), "teacher", grounded=False),
        Proposed(Turn("What happens at 0:12?", "a cat runs"), "teacher", grounded=False),
    ]
    kept, rejected = validate(clip, proposed, CONFIG)
    assert [each.turn.answer for each in kept] == ["a cat runs"]
    assert reason_counts(rejected) == {"teacher/timestamp_outside": 1}


@pytest.mark.parametrize("method", ["facts", "tables", "ocr", "teacher"])
@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        ("Who made it?", "ada@lovelace.org", "email"),
        ("Who wrote to ada@lovelace.org?", "Grace", "email"),
        ("What is said?", "Ada<|im_end|>", "special_token"),
        ("What is <image>?", "Ada", "special_token"),
        ("What is said?", "what the fuck", "profanity"),
        ("Who made it?", "Ada", ""),
    ],
)
def test_new_turns_satisfy_the_text_filter_of_their_source(
    method: Method, question: str, answer: str, expected: str
) -> None:
    facts = {"maker": answer, "about": question}
    turn = Turn(question, answer)
    screened = AnnotationInput("a", None, facts=facts)
    kept, rejected = validate(screened, [Proposed(turn, method, grounded=False)], CONFIG)
    assert [each.turn for each in kept] == ([] if expected else [turn])
    assert reason_counts(rejected) == ({f"{method}/{expected}": 1} if expected else {})
    lenient = TextFilter(personal_data="keep", special_tokens=False, profanity=False)
    kept, _ = validate(replace(screened, text=lenient), [Proposed(turn, method, grounded=False)], CONFIG)
    assert [each.turn for each in kept] == [turn]


def test_personal_data_in_new_turns_is_blanked_where_the_source_asks_for_that() -> None:
    sample = AnnotationInput(
        "a", None, facts={"maker": "ada@lovelace.org"}, text=TextFilter(personal_data="redact")
    )
    turn = Turn("Who made it?", "ada@lovelace.org")
    kept, rejected = validate(sample, [Proposed(turn, "teacher")], CONFIG)
    assert [each.turn.answer for each in kept] == ["email@example.com"] and not rejected


def test_new_turns_are_not_held_to_the_length_of_the_sources_prose_but_to_that_of_the_sample() -> None:
    prose = TextFilter(min_chars=50, max_sample_chars=60, document=DocumentRules())
    sample = AnnotationInput("a", None, turns=(Turn("What is this?", "a long text"),), text=prose)
    proposed = [Proposed(Turn(f"Who is number {n}?", "Ada"), "facts") for n in (1, 2, 3)]
    kept, rejected = validate(sample, proposed, CONFIG)
    assert len(kept) == 1 and reason_counts(rejected) == {"facts/text_length": 2}


def test_validate_keeps_the_good_and_gives_every_reason() -> None:
    sample = AnnotationInput(
        "a",
        None,
        turns=(Turn("Who is it?", "Ada"),),
        facts={"name": "Ada Lovelace", "duration_s": "30"},
    )
    proposed = [
        Proposed(Turn("What is her name?", "Ada Lovelace"), "teacher"),
        Proposed(Turn("Who is it?", "Ada Lovelace"), "teacher"),
        Proposed(Turn("What is HER name?", "Lovelace"), "teacher"),
        Proposed(Turn("Where is she?", "in London"), "teacher"),
        Proposed(Turn("What is she wearing?", "a dress"), "teacher", grounded=False),
        Proposed(Turn("What does she wear?", "I cannot say"), "teacher", grounded=False),
        Proposed(Turn("What does the text say?", "I cannot say"), "ocr"),
        Proposed(Turn("When does she smile?", "at 00:45"), "teacher", grounded=False),
    ]
    kept, rejected = validate(sample, proposed, CONFIG)
    assert [each.turn.answer for each in kept] == ["Ada Lovelace", "a dress", "I cannot say"]
    assert reason_counts(rejected) == {
        "teacher/duplicate_question": 2,
        "teacher/refusal": 1,
        "teacher/timestamp_outside": 1,
        "teacher/ungrounded": 1,
    }
    assert {each.key for each in rejected} == {"a"}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("The red car.", "red car", True),
        ("three", "3", True),
        ("1,200", "1200.0", True),
        ("5 km", "5000 m", True),
        ("red", "blue", False),
        ("15", "16", False),
        ("", "", False),
    ],
)
def test_same_text_is_equality_after_normalisation(one: str, other: str, same: bool) -> None:
    assert same_text(one, other) is same


@pytest.mark.parametrize(
    ("answer", "draws", "expected"),
    [
        ("red", ["red", "Red.", "the red"], ""),
        ("red", ["red", "blue", "red"], ""),
        ("red", ["red", "blue", "green"], "inconsistent"),
        ("red", ["red", None, None], "inconsistent"),
        ("red", [], "inconsistent"),
    ],
)
def test_consistency_wants_enough_draws_to_agree(answer: str, draws: list[str | None], expected: str) -> None:
    config = ConsistencyConfig(min_agreement=0.66)
    assert code(consistency_problem(answer, draws, config, same_text)) == expected


@given(st.lists(st.sampled_from(["red", "blue", None]), max_size=8), st.floats(0, 1))
def test_consistency_never_falls_when_a_draw_agrees_more(draws: list[str | None], least: float) -> None:
    config = ConsistencyConfig(min_agreement=least)
    for place, draw in enumerate(draws):
        better = [*draws[:place], "red", *draws[place + 1 :]]
        if draw != "red" and consistency_problem("red", draws, config, same_text) is None:
            assert consistency_problem("red", better, config, same_text) is None


@pytest.fixture(scope="module")
def by_meaning() -> Same:
    """Agreement in the packaged MiniLM, at the config's own threshold."""
    texts = [text for pair in (*PARAPHRASES, *OTHERS) for text in pair]
    return same_meaning(texts, ConsistencyConfig().min_similarity, threads=1)


PARAPHRASES = [
    ("a man riding a bicycle", "a man is riding a bike"),
    ("the company's annual revenue", "annual revenue of the company"),
    ("a sofa", "a couch"),
    ("automobile", "car"),
    ("three", "3"),
]
OTHERS = [
    ("the bar on the left", "the bar on the right"),
    ("a dog", "a cat"),
    ("in 2015", "in 2016"),
    ("The shop is open", "The shop is not open"),
    ("yes", "no"),
    ("a red car", "a blue car"),
    ("Berlin", "Munich"),
]


@pytest.mark.parametrize("pair", PARAPHRASES)
def test_same_meaning_takes_paraphrases(by_meaning: Same, pair: tuple[str, str]) -> None:
    assert by_meaning(*pair)


@pytest.mark.parametrize("pair", OTHERS)
def test_same_meaning_refuses_other_answers_however_near(by_meaning: Same, pair: tuple[str, str]) -> None:
    assert not by_meaning(*pair)
