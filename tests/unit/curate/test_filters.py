"""The funnel: each filter rejects the bad, keeps the good, and loses nothing."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from components.curate.clients import Locator
from components.curate.fetch import Fetched
from components.curate.filters import (
    find_exact_duplicates,
    find_leaks,
    find_near_duplicates,
    find_unsound,
    run_funnel,
)
from components.curate.render import Task, draw, find_problem
from components.curate.samples import Candidate, Draft, Turn, encode_png, hash_perceptual, hash_pixels


def _candidate(key: str, *, split: str = "train", seed: int = 0, answer: str = "a circle") -> Candidate:
    image = Image.new("RGB", (64, 64), "white")
    left = zlib.crc32(bytes([seed])) % 40
    ImageDraw.Draw(image).ellipse((left, seed % 40, left + 20, seed % 40 + 20), fill=(seed, 40, 90))
    return Candidate(
        key=key,
        category="vqa",
        group="g" if split == "test" else "",
        split=split,
        source="pypi:x==1",
        source_version="1",
        licence="MIT",
        original_id=key,
        turns=(Turn("What is this?", answer),),
        png=encode_png(image),
        width=64,
        height=64,
        image_sha256=hash_pixels(image),
        phash=hash_perceptual(image),
        problem="",
    )


def test_exact_duplicates_the_second_goes_and_names_the_first() -> None:
    verdicts = find_exact_duplicates([_candidate("a"), _candidate("b", seed=9), _candidate("c")])
    assert {position: reason.other for position, reason in verdicts.items()} == {2: "a"}


def test_exact_duplicates_another_question_about_the_image_stays() -> None:
    assert not find_exact_duplicates([_candidate("a"), _candidate("b", answer="a disc")])


def test_near_duplicates_a_slightly_changed_copy_goes() -> None:
    copy = replace(_candidate("b"), image_sha256="0" * 64)
    near = replace(copy, phash=f"{int(copy.phash, 16) ^ 0b11:016x}")
    assert list(find_near_duplicates([_candidate("a"), near], 2)) == [1]
    assert not find_near_duplicates([_candidate("a"), near], 1)


def test_near_duplicates_the_same_picture_with_other_text_stays() -> None:
    assert not find_near_duplicates([_candidate("a", answer="12"), _candidate("b", answer="13")], 4)


def test_leaks_a_test_image_in_training_goes_whatever_its_question() -> None:
    held_out, leaked = _candidate("t", split="test"), _candidate("a", answer="something else")
    verdicts = find_leaks([leaked, held_out, _candidate("b", seed=9)], 0)
    assert {p: (r.code, r.other) for p, r in verdicts.items()} == {0: ("in_test", "t")}


def test_leaks_validation_and_training_are_kept_apart() -> None:
    verdicts = find_leaks([_candidate("a"), _candidate("v", split="validation")], 0)
    assert {p: r.code for p, r in verdicts.items()} == {0: "in_validation"}


def test_unsound_empty_text_and_named_problems_go() -> None:
    good, bad = _candidate("a"), replace(_candidate("b"), problem="blank")
    mute = replace(_candidate("c"), turns=(Turn("What?", " "),))
    assert {p: r.code for p, r in find_unsound([good, bad, mute]).items()} == {1: "blank", 2: "empty_text"}


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (Image.new("RGB", (64, 64), "white"), "blank"),
        (Image.linear_gradient("L").resize((32, 64)).convert("RGB"), "wrong_size"),
        (Image.linear_gradient("L").resize((64, 64)).convert("RGB"), ""),
    ],
)
def test_problem_of_a_picture_is_named(image: Image.Image, problem: str) -> None:
    assert find_problem(image, 64) == problem


def encode_bomb() -> bytes:
    """A PNG header that claims 2 gigapixels, and nothing behind it."""
    chunk = b"IHDR" + struct.pack(">II", 50_000, 40_000) + bytes([8, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


@pytest.mark.parametrize(
    ("reader", "payload"),
    [
        ("easy_vqa", {"image": b"not a png"}),
        ("easy_vqa", {"image": _candidate("x").png[:60]}),
        ("easy_vqa", {"image": encode_bomb()}),
        ("emoji", {"svg": "<svg broken"}),
    ],
)
def test_drawing_a_corrupt_source_gives_a_rejected_sample(reader: str, payload: dict[str, object]) -> None:
    from pathlib import Path

    fetched = Fetched(Locator("pypi", "x", "1"), Path("x"), "0", "MIT")
    draft = Draft("1", "train", "", (Turn("a", "b"),), payload)
    candidate = draw(Task("k", "vqa", reader, fetched, draft, 64))
    assert candidate.problem == "undecodable" and candidate.detail
    assert find_unsound([candidate])[0].evidence == candidate.detail


@given(
    st.lists(
        st.tuples(st.sampled_from(["train", "validation", "test"]), st.integers(0, 5), st.sampled_from("ab")),
        max_size=25,
    ),
    st.integers(0, 4),
)
def test_funnel_loses_nothing_and_keeps_no_leak(rows: list[tuple[str, int, str]], distance: int) -> None:
    candidates = [
        _candidate(str(n), split=split, seed=20 * seed, answer=answer)
        for n, (split, seed, answer) in enumerate(rows)
    ]
    funnel = run_funnel(candidates, phash_distance=distance, seconds=0)
    keys = [c.key for c in funnel.kept] + [r.candidate.key for r in funnel.rejected]
    assert sorted(keys) == sorted(c.key for c in candidates)
    assert all(step.num_in - step.num_out == sum(step.rejected.values()) for step in funnel.steps)
    held_out = {c.image_sha256 for c in funnel.kept if c.split == "test"}
    assert not held_out & {c.image_sha256 for c in funnel.kept if c.split != "test"}
    assert not any(r.candidate.split == "test" and r.reason.code.startswith("in_") for r in funnel.rejected)
