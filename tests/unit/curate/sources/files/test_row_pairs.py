from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.config import SourceConfig
from components.curate.samples import Reason, Turn
from components.curate.sources.files.conversations import as_text, read_conversation
from components.curate.sources.files.pairs import Layout, Pair
from components.errors import ConfigError

PROMPT = "Describe the image."


def layout(**options: Any) -> Layout:
    return Layout.of(SourceConfig(locator="folder:x", category="photos", options=options))


def turns(row: dict[str, Any], **options: Any) -> list[tuple[str, str]]:
    pair = layout(**options).read(row)
    assert isinstance(pair, Pair), pair
    return [(turn.question, turn.answer) for turn in pair.turns]


PART = {"type": "text", "text": "What?", "image_url": None}
SHOWN = {"type": "image_url", "text": None, "image_url": {"url": "a.png"}}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"caption": "a cat"}, [(PROMPT, "a cat")]),
        ({"captions": ["", "a cat", "one cat"]}, [(PROMPT, "a cat")]),
        ({"text": 7}, [(PROMPT, "7")]),
        ({"question": "How many?", "answer": 2}, [("How many?", "2")]),
        ({"question": "Is it?", "answer": True}, [("Is it?", "yes")]),
        ({"question": "What?", "answers": ["a", "b", "b"]}, [("What?", "b")]),
        ({"question": "What?", "answers": [{"answer": "b"}, {"answer": "a"}]}, [("What?", "b")]),
        ({"question": "Which?", "choices": ["x", "y"], "answer": 1}, [("Which?", "y")]),
        ({"question": ["a?", "b?"], "answer": ["1", "2"]}, [("a?", "1"), ("b?", "2")]),
        ({"texts": [{"user": "What?", "assistant": "a cat"}]}, [("What?", "a cat")]),
        ({"turns": [{"question": "What?", "answer": "a cat"}]}, [("What?", "a cat")]),
        (
            {
                "conversations": [
                    {"from": "human", "value": "What?\n<image>"},
                    {"from": "gpt", "value": "a cat"},
                ]
            },
            [("What?", "a cat")],
        ),
        (
            {
                "conversations": json.dumps(
                    [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": "x"}]
                )
            },
            [(PROMPT, "x")],
        ),
        (
            {
                "messages": [
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": [SHOWN, PART]},
                    {"role": "assistant", "content": "a"},
                    {"role": "assistant", "content": "cat"},
                ]
            },
            [("What?", "a\ncat")],
        ),
        ({"messages": [], "caption": "a cat"}, [(PROMPT, "a cat")]),
        ({"question": "What?", "answer": None, "caption": "a cat"}, [(PROMPT, "a cat")]),
        ({"question": "What?", "choices": ["x"], "answer": 5}, []),
        ({"caption": math.nan}, []),
        ({"caption": None, "image": "a.png"}, []),
    ],
)
def test_pair_usual_layouts_become_turns(row: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert turns(row) == expected


@pytest.mark.parametrize(
    ("messages", "evidence"),
    [
        ([{"from": "human", "value": "What?"}], "a question without its answer: What?"),
        ([{"from": "gpt", "value": "a cat"}], "an answer without its question: a cat"),
        ([{"role": "tool", "content": "{}"}], "a message of role 'tool'"),
        ([{"role": "user", "content": [{"type": "audio"}]}], "a part of type 'audio'"),
        ([{"role": "user", "content": {"text": "What?"}}], "content is dict"),
        (["What?", "a cat"], "a message is str"),
        ("not json", "no JSON"),
        ('{"a": 1}', "not a list of messages: dict"),
        (3, "not a list of messages: int"),
        ("[" * 100_000, "no JSON"),
    ],
)
def test_pair_conversation_of_no_known_form_says_why(messages: Any, evidence: str) -> None:
    reason = layout().read({"messages": messages})
    assert isinstance(reason, Reason)
    assert reason.code == "bad_turns" and reason.evidence.startswith(evidence)


def test_pair_named_fields_are_taken_and_no_others() -> None:
    row = {
        "q": "What?",
        "a": "a cat",
        "caption": "no",
        "kind": "vqa",
        "rights": "CC0",
        "img": "x.png",
        "w": 3,
    }
    pair = layout(
        question="q", answer="a", label="kind", licence="rights", facts=["w"], group_by="kind"
    ).read(row)
    assert pair == Pair((Turn("What?", "a cat"),), ("x.png",), "vqa", "CC0", "", "vqa", {"w": "3"})
    assert turns(row, question="q", answer="a", caption="caption") == [("What?", "a cat"), (PROMPT, "no")]
    assert turns({"kind": "cat"}, label="kind", label_question="Which?") == [("Which?", "cat")]
    with pytest.raises(ConfigError, match="both"):
        layout(answer="a")


def test_pair_pictures_of_messages_stand_in_where_the_row_names_none() -> None:
    row = {"messages": [{"role": "user", "content": [SHOWN, PART]}, {"role": "assistant", "content": "x"}]}
    first, second = layout().read(row), layout().read(row | {"image": "b.png"})
    assert isinstance(first, Pair) and isinstance(second, Pair)
    assert (first.images, second.images) == (("a.png",), ("b.png",))


def test_pair_text_that_no_file_can_hold_is_rejected() -> None:
    for row in ({"caption": "caf\udce9"}, {"caption": "x", "metadata": {"y": "\ud800"}}):
        reason = layout().read(row)
        assert isinstance(reason, Reason) and reason.code == "invalid_utf8"


def test_pair_facts_are_bounded() -> None:
    pair = layout().read({"caption": "x", "metadata": {str(n): {"v": n} for n in range(1000)}})
    assert isinstance(pair, Pair)
    assert len(pair.facts) == 100 and pair.facts["7.v"] == "7"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["from", "value", "role", "content", "type", "text", "user", "assistant", "answer"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
FIELDS = [
    "messages",
    "texts",
    "question",
    "answer",
    "choices",
    "caption",
    "image",
    "metadata",
    "label",
    "split",
]


@given(st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_pair_any_row_is_read_or_refused(row: dict[str, Any]) -> None:
    found = layout(label_question="What?").read(row)
    if isinstance(found, Pair):
        assert all(isinstance(text, str) for turn in found.turns for text in (turn.question, turn.answer))
        assert all(isinstance(fact, str) for fact in found.facts.values())


@given(st.lists(st.tuples(st.text("abc ", min_size=1), st.text("abc ", min_size=1)), min_size=1))
def test_conversation_forms_say_the_same(said: list[tuple[str, str]]) -> None:
    forms = [
        [{"user": q, "assistant": a} for q, a in said],
        [each for q, a in said for each in ({"from": "human", "value": q}, {"from": "gpt", "value": a})],
        [
            each
            for q, a in said
            for each in (
                {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": q}]},
                {"role": "assistant", "content": a},
            )
        ],
    ]
    first, *others = (read_conversation(form, prompt=PROMPT) for form in forms)
    assert all(other == first for other in others)


def test_as_text_writes_numbers_as_people_do() -> None:
    values = [True, False, 3, 3.0, 0.1, 1e300, None, math.nan, " x ", b"x", [1], {"a": 1}]
    assert [as_text(each) for each in values] == [
        "yes",
        "no",
        "3",
        "3",
        "0.1",
        "1e+300",
        "",
        "",
        "x",
        "",
        "",
        "",
    ]
