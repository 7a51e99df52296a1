"""Preference pairs: what is chosen, what is rejected, and how they are split and stored."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.align.pairs import PAIRS_FILE, Pair, judge, read_pairs, split_pairs, write_pairs
from components.vlm import Generation


def _said(*texts: str, ended: bool = True) -> list[Generation]:
    return [Generation(text=text, token_ids=(1,), ended=ended) for text in texts]


def _pair(key: str, *, chosen: str = "red", rejected: str = "blue") -> Pair:
    asked = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "?"}]}]
    return Pair(
        key=key,
        turn=0,
        category="vqa",
        question="?",
        messages=asked,
        chosen=chosen,
        rejected=rejected,
        images=(key.encode(), b"more"),
    )


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (_said("blue", "green", "green"), ("red", "green")),
        (_said("Red.", "blue", "Red.", "red"), ("Red.", "blue")),
        (_said("blue", "green"), ("red", "blue")),
        (_said("red", "Red"), None),
        (_said("blue", ended=False), None),
        (_said("blue", ended=False) + _said("green"), ("red", "green")),
        ([], None),
    ],
)
def test_judge_answers_gives_own_right_and_most_frequent_wrong(
    answers: list[Generation], expected: tuple[str, str] | None
) -> None:
    assert judge(answers, "red") == expected


@given(
    keys=st.lists(st.integers(0, 30), min_size=2, max_size=60),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 9),
)
def test_split_pairs_any_pairs_keeps_images_apart(keys: list[int], share: float, seed: int) -> None:
    keys = [*keys, 98, 99]
    pairs = [_pair(str(key)) for key in keys]
    training, held_out = split_pairs(pairs, held_out_share=share, seed=seed)
    assert training and held_out
    assert len(training) + len(held_out) == len(pairs)
    assert not {pair.key for pair in training} & {pair.key for pair in held_out}
    assert split_pairs(pairs, held_out_share=share, seed=seed) == (training, held_out)


def test_write_pairs_read_back_gives_the_same_pairs_and_bytes(tmp_path: Path) -> None:
    pairs = [_pair("a"), _pair("b", rejected="")]
    write_pairs(pairs, tmp_path)
    first = (tmp_path / PAIRS_FILE).read_bytes()
    assert read_pairs(tmp_path) == pairs
    write_pairs(pairs, tmp_path)
    assert (tmp_path / PAIRS_FILE).read_bytes() == first
