"""The seeded choice of held-out questions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.errors import OpsinError
from components.evaluate.questions import choose
from components.loader import SLOT, Sample, Turn


def samples(count: int, group: str = "official_test") -> list[Sample]:
    turns = (Turn("What?", "this"), Turn("Which?", "that"))
    return [Sample(f"s{index:03d}", "vqa", group, "test", (b"",), turns) for index in range(count)]


@given(st.permutations(range(12)), st.integers(1, 30), st.integers(0, 5))
def test_choice_does_not_depend_on_the_order_of_samples(order: list[int], limit: int, seed: int) -> None:
    made = samples(12)
    assert choose(made, limit, seed) == choose([made[index] for index in order], limit, seed)


def test_choice_with_a_higher_limit_keeps_what_was_chosen() -> None:
    few, many = choose(samples(40), 10, 0), choose(samples(40), 30, 0)
    assert many[:10] == few
    assert len(many) == 30


def test_choice_takes_the_limit_from_every_group() -> None:
    chosen = choose([*samples(40), *samples(40, "other")], 5, 0)
    assert [question.group for question in chosen] == ["vqa/official_test"] * 5 + ["vqa/other"] * 5


def test_choice_with_another_seed_is_another() -> None:
    assert choose(samples(40), 10, 0) != choose(samples(40), 10, 1)


def test_choice_of_a_later_turn_of_a_chat_holds_what_came_before_it() -> None:
    turns = (Turn(f"Is {SLOT} red?", "yes"), Turn(f"And {SLOT}?", "no"))
    chat = Sample("chat", "vqa", "", "test", (b"one", b"two"), turns, chat=True)
    first, second = sorted(choose([chat], 10, 0), key=lambda question: question.turn)
    assert (first.question, first.asked.images) == (f"Is {SLOT} red?", (b"one",))
    assert (second.question, second.answer, second.asked.images) == (f"And {SLOT}?", "no", (b"one", b"two"))
    said = [part for message in second.asked.messages for part in message["content"]]
    assert [part.get("text", part["type"]) for part in said] == [
        *("Is ", "image", " red?"),
        "yes",
        *("And ", "image", "?"),
    ]


def test_choice_from_nothing_is_refused() -> None:
    with pytest.raises(OpsinError, match="nothing to evaluate"):
        choose([], 10, 0)
