"""What planning settles: splits by group, wordings by hash."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from components.curate.sources.planning import coin, divide, pick, pick_rare, split_of


def test_split_of_holds_out_the_shares_asked_for() -> None:
    splits = Counter(split_of(0, "kind", f"group {n}", unseen=0.2, validation=0.1) for n in range(5000))
    assert 900 < splits["test"] < 1100 and 400 < splits["validation"] < 600


@given(st.sets(st.text(min_size=1), min_size=3, max_size=30), st.integers(0, 9))
def test_divide_leaves_no_split_empty_and_ignores_the_order(groups: set[str], seed: int) -> None:
    splits = divide(seed, "kind", sorted(groups), unseen=0.1, validation=0.05)
    assert set(splits.values()) == {"train", "validation", "test"}
    assert splits == divide(
        seed, "kind", [*sorted(groups, reverse=True), *groups], unseen=0.1, validation=0.05
    )


def test_pick_and_coin_are_fixed_and_fair() -> None:
    picked = Counter(pick("abcd", 0, "wording", str(n)) for n in range(4000))
    assert set(picked) == set("abcd") and min(picked.values()) > 850
    assert 1850 < sum(coin(0, "ask", str(n)) for n in range(4000)) < 2150
    assert [pick("abcd", 3, str(n)) for n in range(9)] == [pick("abcd", 3, str(n)) for n in range(9)]


def test_pick_rare_brings_up_rare_choices_as_often_as_frequent_ones() -> None:
    """Of 10,000 flags one in ten has green and all others have not: asked fairly, both come up equally."""
    times = {"green": 1000, "no green": 9000}
    picked = Counter(
        pick_rare(
            ["green" if number % 10 == 0 else "no green", "other"], times | {"other": 5000}, 0, str(number)
        )
        for number in range(10_000)
    )
    rare, frequent = picked["green"] / 1000, picked["no green"] / 9000
    assert abs(rare - 5 / 6) < 0.04 and abs(frequent - 5 / 14) < 0.04  # w / (w + w'), w = 1 / times
