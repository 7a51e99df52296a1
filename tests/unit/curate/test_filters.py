"""The funnel and its filters over all samples: each rejects the bad, keeps the good, and names the twin."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made import make_candidate, make_text

from components.config.duplicates import NearDuplicateConfig
from components.curate.clones import drop_duplicates, leaked_keys, signature_table
from components.curate.duplicates import write_evaluation_set
from components.curate.filters import find_exact_copies
from components.curate.funnel import Funnel
from components.curate.samples import Candidate, Header, Reason
from components.errors import ConfigError

BY_TEXT = NearDuplicateConfig(same_text_only=("*",))


def with_header(candidate: Candidate, sha256: str) -> Candidate:
    return replace(candidate, header=Header("png", 64, 64, 100, sha256))


def dropped(candidates: list[Candidate], config: NearDuplicateConfig = BY_TEXT) -> dict[str, tuple[str, str]]:
    funnel = Funnel(list(candidates))
    drop_duplicates(funnel, config)
    return {each.candidate.key: (each.reason.code, each.reason.other) for each in funnel.rejected}


def test_exact_copies_of_a_file_go_before_anything_is_decoded() -> None:
    same = [with_header(replace(make_candidate(key), picture=None), "0" * 64) for key in "ab"]
    other = with_header(make_candidate("c", answer="a disc"), "0" * 64)
    drawn = [make_candidate("d"), make_candidate("e")]
    verdicts = find_exact_copies([*same, other, *drawn])
    assert {position: reason.other for position, reason in verdicts.items()} == {1: "a"}
    assert verdicts[1].evidence == f"the same file and text as a: {same[0].original_id}"


def test_duplicates_the_second_goes_and_names_the_first() -> None:
    items = [make_candidate("a"), make_candidate("b", seed=9), make_candidate("c")]
    assert dropped(items) == {"c": ("exact_duplicate", "a")}


def test_duplicates_another_question_about_the_image_stays() -> None:
    items = [make_candidate("a"), make_candidate("b", answer="a disc")]
    assert dropped(items) == {}


def test_duplicates_of_texts_without_an_image_go() -> None:
    items = [make_text("a"), make_text("b"), make_text("c", answer="x")]
    assert dropped(items) == {"b": ("exact_duplicate", "a")}


def test_leaks_a_test_image_in_training_goes_whatever_its_question() -> None:
    held_out, leaked = make_candidate("t", split="test"), make_candidate("a", answer="something else")
    assert dropped([leaked, held_out, make_candidate("b", seed=9)]) == {"a": ("in_test", "t")}


def test_leaks_validation_and_training_are_kept_apart() -> None:
    items = [make_candidate("a"), make_candidate("v", split="validation")]
    assert dropped(items) == {"a": ("in_validation", "v")}


def test_an_evaluation_set_takes_its_pictures_out_of_training(tmp_path: Path) -> None:
    exam = tmp_path / "exam.parquet"
    write_evaluation_set(exam, "exam", signature_table([make_candidate("q", seed=40)]))
    items = [make_candidate("a", seed=40), make_candidate("b", seed=9)]
    config = NearDuplicateConfig(same_text_only=("*",), evaluation_sets=(str(exam),))
    assert leaked_keys(items, config) == {"a"}
    assert dropped(items, config) == {"a": ("in_evaluation", "exam/q")}
    assert leaked_keys(items, BY_TEXT) == frozenset()


def test_an_evaluation_set_that_is_missing_is_named(tmp_path: Path) -> None:
    config = NearDuplicateConfig(evaluation_sets=(str(tmp_path / "gone.parquet"),))
    with pytest.raises(ConfigError, match="does not exist"):
        leaked_keys([make_candidate("a")], config)


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
    )
)
def test_filters_lose_nothing_and_keep_no_leak(rows: list[tuple[str, int, str]]) -> None:
    candidates = [
        make_candidate(str(n), split=split, seed=20 * seed, answer=answer)
        for n, (split, seed, answer) in enumerate(rows)
    ]
    funnel = Funnel(list(candidates))
    drop_duplicates(funnel, BY_TEXT)
    keys = [c.key for c in funnel.kept] + [r.candidate.key for r in funnel.rejected]
    assert sorted(keys) == sorted(c.key for c in candidates)
    assert all(step.num_in - step.num_out == sum(step.rejected.values()) for step in funnel.steps)
    held_out = {c.image_sha256 for c in funnel.kept if c.split == "test"}
    assert not held_out & {c.image_sha256 for c in funnel.kept if c.split != "test"}
    assert not any(r.candidate.split == "test" and r.reason.code.startswith("in_") for r in funnel.rejected)
    assert not leaked_keys(funnel.kept, BY_TEXT)
