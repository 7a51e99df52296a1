"""Filters over all samples: each rejects the bad, keeps the good, and names the twin."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from made import make_candidate, make_text

from components.curate.filters import find_exact_duplicates, find_leaks, find_near_duplicates
from components.curate.funnel import Funnel
from components.curate.samples import Candidate, Reason


def pixels(candidate: Candidate) -> str:
    return candidate.image_sha256


def test_exact_duplicates_the_second_goes_and_names_the_first() -> None:
    verdicts = find_exact_duplicates(
        [make_candidate("a"), make_candidate("b", seed=9), make_candidate("c")], pixels
    )
    assert {position: reason.other for position, reason in verdicts.items()} == {2: "a"}


def test_exact_duplicates_another_question_about_the_image_stays() -> None:
    assert not find_exact_duplicates([make_candidate("a"), make_candidate("b", answer="a disc")], pixels)


def test_exact_duplicates_pictures_that_are_not_decoded_yet_are_no_copies() -> None:
    undecoded = [replace(make_candidate(key), picture=None) for key in "ab"]
    assert not find_exact_duplicates(undecoded, pixels)


def test_exact_duplicates_of_texts_without_an_image_go() -> None:
    assert list(
        find_exact_duplicates([make_text("a"), make_text("b"), make_text("c", answer="x")], pixels)
    ) == [1]


def test_near_duplicates_a_slightly_changed_copy_goes() -> None:
    copy = make_candidate("b")
    near = replace(copy, phash=f"{int(copy.phash, 16) ^ 0b11:016x}")
    assert list(find_near_duplicates([make_candidate("a"), near], 2)) == [1]
    assert not find_near_duplicates([make_candidate("a"), near], 1)


def test_near_duplicates_the_same_picture_with_other_text_stays() -> None:
    assert not find_near_duplicates([make_candidate("a", answer="12"), make_candidate("b", answer="13")], 4)


def test_leaks_a_test_image_in_training_goes_whatever_its_question() -> None:
    held_out, leaked = make_candidate("t", split="test"), make_candidate("a", answer="something else")
    verdicts = find_leaks([leaked, held_out, make_candidate("b", seed=9)], 0)
    assert {p: (r.code, r.other) for p, r in verdicts.items()} == {0: ("in_test", "t")}


def test_leaks_a_held_out_text_in_training_goes() -> None:
    verdicts = find_leaks([make_text("a"), make_text("t", split="test"), make_text("b", answer="a ball")], 0)
    assert {p: (r.code, r.other) for p, r in verdicts.items()} == {0: ("in_test", "t")}


def test_leaks_validation_and_training_are_kept_apart() -> None:
    verdicts = find_leaks([make_candidate("a"), make_candidate("v", split="validation")], 0)
    assert {p: r.code for p, r in verdicts.items()} == {0: "in_validation"}


def test_funnel_counts_what_a_filter_rejects_and_why() -> None:
    funnel = Funnel([make_candidate("a"), make_text("b"), make_text("c")])
    funnel.apply("odd", lambda _: {1: Reason("strange", evidence="!")}, spent=2.0)
    (step,) = funnel.steps
    assert (step.num_in, step.num_out, step.rejected, step.reasons) == (3, 2, {"text": 1}, {"strange": 1})
    assert step.seconds >= 2 and step.samples_per_s <= 1.5
    assert [each.candidate.key for each in funnel.rejected] == ["b"]


@given(
    st.lists(
        st.tuples(st.sampled_from(["train", "validation", "test"]), st.integers(0, 5), st.sampled_from("ab")),
        max_size=25,
    ),
    st.integers(0, 4),
)
def test_filters_lose_nothing_and_keep_no_leak(rows: list[tuple[str, int, str]], distance: int) -> None:
    candidates = [
        make_candidate(str(n), split=split, seed=20 * seed, answer=answer)
        for n, (split, seed, answer) in enumerate(rows)
    ]
    funnel = Funnel(list(candidates))
    funnel.apply("exact_duplicate", lambda items: find_exact_duplicates(items, pixels))
    funnel.apply("near_duplicate", lambda items: find_near_duplicates(items, distance))
    funnel.apply("decontamination", lambda items: find_leaks(items, distance))
    keys = [c.key for c in funnel.kept] + [r.candidate.key for r in funnel.rejected]
    assert sorted(keys) == sorted(c.key for c in candidates)
    assert all(step.num_in - step.num_out == sum(step.rejected.values()) for step in funnel.steps)
    held_out = {c.image_sha256 for c in funnel.kept if c.split == "test"}
    assert not held_out & {c.image_sha256 for c in funnel.kept if c.split != "test"}
    assert not any(r.candidate.split == "test" and r.reason.code.startswith("in_") for r in funnel.rejected)
