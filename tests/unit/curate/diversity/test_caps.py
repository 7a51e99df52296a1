"""Caps hold, keep as much as they can, and drop the same samples in any order; balance adds up."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from components.config.diversity import Cap, DiversityConfig, Topic
from components.curate.diversity.balance import measure_balance, write_balance
from components.curate.diversity.caps import Labelled, apply_caps, cap_counts
from components.errors import ConfigError

TAXONOMY = (
    Topic(name="a"),
    Topic(name="b"),
    Topic(name="c", children=("x",)),
    Topic(name="bad", wanted=False),
)


def config(**fields: object) -> DiversityConfig:
    return DiversityConfig.model_validate({"taxonomy": TAXONOMY} | fields)


def labelled(**counts: int) -> list[Labelled]:
    return [
        Labelled(f"{label}-{index}", "train", label.replace("_", "/"))
        for label, count in counts.items()
        for index in range(count)
    ]


def test_surplus_goes_with_a_reason_and_the_share_holds_of_what_is_kept() -> None:
    samples = labelled(a=80, b=15, other=15)
    found = apply_caps(samples, config(max_share=0.5), seed=0)
    assert len(found) == 50 and {reason.code for reason in found.values()} == {"label_cap"}
    assert {samples[place].label for place in found} == {"a"}
    assert next(iter(found.values())).evidence == "a: 80, at most 30"


def test_nothing_goes_below_the_caps() -> None:
    assert apply_caps(labelled(a=50, b=50), config(max_share=0.5, max_count=50), seed=0) == {}


def test_own_cap_of_a_label_replaces_the_general_one_and_other_has_none() -> None:
    caps = config(max_count=10, caps={"b": {"max_count": 12}, "c/other": {"max_count": 1}})
    counts = {"a": 20, "b": 20, "c/other": 20, "other": 20}
    assert cap_counts(counts, caps) == {"a": 10, "b": 12, "c/other": 1, "other": 20}


def test_unwanted_labels_go_in_every_split_and_caps_only_in_training() -> None:
    samples = [
        *(Labelled(f"t{index}", "test", "a") for index in range(9)),
        Labelled("t9", "test", "bad"),
        *labelled(a=9, bad=1),
    ]
    found = apply_caps(samples, config(max_count=4), seed=0)
    codes = [(samples[place].split, reason.code) for place, reason in found.items()]
    assert codes.count(("test", "unwanted_label")) == codes.count(("train", "unwanted_label")) == 1
    assert codes.count(("train", "label_cap")) == 5 and ("test", "label_cap") not in codes


def test_worst_aligned_goes_first_only_where_all_are_scored_and_it_is_asked_for() -> None:
    scored = [Labelled(f"k{index}", "train", "a", score=float(index)) for index in range(10)]
    partly = [*scored, Labelled("unscored", "train", "a")]
    aligned = config(max_count=6, surplus="alignment")
    assert set(apply_caps(scored, aligned, seed=0)) == {0, 1, 2, 3}
    assert apply_caps(scored, config(max_count=6), seed=0).keys() != {0, 1, 2, 3}
    assert (
        apply_caps(partly, aligned, seed=0).keys() == apply_caps(partly, config(max_count=6), seed=0).keys()
    )


def test_caps_that_only_an_empty_dataset_satisfies_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"no dataset satisfies these caps.*a 0.4, b 0.4"):
        apply_caps(labelled(a=50, b=50), config(max_share=0.4), seed=0)


@given(
    st.lists(st.sampled_from(["a", "b", "c/x", "other"]), max_size=60),
    st.floats(0.25, 1),
    st.integers(0, 20),
    st.randoms(use_true_random=False),
)
def test_caps_hold_in_any_order_and_are_not_tighter_than_they_must(
    labels: list[str], share: float, count: int, random: object
) -> None:
    samples = [Labelled(f"k{index}", "train", label) for index, label in enumerate(labels)]
    wanted = config(max_share=share, max_count=count)
    exact = Fraction(str(share))  # as the caps read it: three times the float 0.333… is 1.0
    try:
        found = apply_caps(samples, wanted, seed=1)
    except ConfigError:
        return
    kept = [each.label for place, each in enumerate(samples) if place not in found]
    for label in set(kept) - {"other"}:
        assert kept.count(label) <= exact * len(kept)
        assert not count or kept.count(label) <= count
    for label in set(labels) - {"other"}:  # one more of it would break a cap
        if kept.count(label) < labels.count(label):
            one_more = kept.count(label) + 1
            assert one_more > exact * (len(kept) + 1) or (count and one_more > count)
    shuffled = list(samples)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    gone = {shuffled[place].key for place in apply_caps(shuffled, wanted, seed=1)}
    assert gone == {samples[place].key for place in found}


def test_balance_of_equal_labels_is_their_number_and_of_one_label_is_one() -> None:
    even = measure_balance(labelled(a=10, b=10, c_x=10, c_other=10), (), config())["train"]["after"]
    assert even["effective_labels"] == 4 and even["entropy"] == pytest.approx(math.log(4), abs=1e-4)
    assert even["other_share"] == 0.25
    one = measure_balance(labelled(a=7), (), config())["train"]["after"]
    assert one["effective_labels"] == 1 and one["counts"] == {"a": 7}


def test_balance_counts_what_goes_and_is_written_and_drawn(tmp_path: Path) -> None:
    wanted = config(caps={"a": Cap(max_count=5)})
    samples = [*labelled(a=30, b=10, bad=10), Labelled("v", "validation", "b")]
    dropped = apply_caps(samples, wanted, seed=0)
    balance = measure_balance(samples, dropped.keys(), wanted)
    assert balance["train"]["before"]["unwanted_share"] == 0.2
    assert balance["train"]["after"]["counts"] == {"a": 5, "b": 10}
    assert balance["train"]["after"]["unwanted_share"] == 0
    assert balance["validation"]["after"]["samples"] == 1
    write_balance(balance, tmp_path)
    assert json.loads((tmp_path / "balance.json").read_text()) == balance
    with Image.open(tmp_path / "balance.png") as chart:
        assert len(chart.convert("RGB").getcolors(1 << 20) or ()) > 10


def test_split_that_loses_everything_is_still_reported(tmp_path: Path) -> None:
    samples = labelled(bad=3)
    balance = measure_balance(samples, apply_caps(samples, config(), seed=0).keys(), config())
    assert balance["train"]["after"]["samples"] == balance["train"]["after"]["effective_labels"] == 0
    write_balance(balance, tmp_path)
