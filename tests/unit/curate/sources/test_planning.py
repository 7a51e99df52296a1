"""What planning settles: splits by group, wordings by hash."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from components.curate.sources.planning import coin, divide, pick, split_of


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
