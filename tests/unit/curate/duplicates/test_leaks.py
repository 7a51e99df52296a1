from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from duplicate_pictures import chart, cropped, drawing, jpeg, row
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from components.config.duplicates import NearDuplicateConfig
from components.curate.duplicates import (
    SCHEMA,
    EvaluationSet,
    Signatures,
    Verdicts,
    deduplicate,
    find_leaks,
    read_evaluation_sets,
    write_evaluation_set,
)
from components.curate.duplicates import alike as alike_module
from components.curate.duplicates.perceptual import View, gray_of, hash_views, thumbnail, views
from components.curate.duplicates.signatures import SPLITS
from components.curate.duplicates.verification import are_photographs, same_pictures
from components.errors import ConfigError

Maker = Callable[..., Signatures]
CONFIG = NearDuplicateConfig()


def judged(signatures: Signatures, verdicts: Verdicts) -> dict[str, tuple[str, str]]:
    """Key of each that goes → code and key of the other."""
    keys = signatures.keys.take(pa.array(verdicts.rows)).to_pylist()
    return {
        key: (str(code), str(other))
        for key, code, other in zip(keys, verdicts.codes, verdicts.others, strict=True)
    }


def deduplicated(signatures: Signatures, config: NearDuplicateConfig = CONFIG) -> dict[str, tuple[str, str]]:
    return judged(signatures, deduplicate(signatures, config))


def test_duplicates_in_a_split_go_for_the_first(signatures_of: Maker, photographs: list[Image.Image]) -> None:
    one, other = photographs[:2]
    signatures = signatures_of(
        [
            row("a", one, "a woman"),
            row("b", other, "a cup"),
            row("equal", one, "a woman"),
            row("recompressed", jpeg(one), "an astronaut"),
            row("asked twice", one, "where is she?"),
        ]
    )
    assert deduplicated(signatures) == {
        "equal": ("exact_duplicate", "a"),
        "recompressed": ("near_duplicate", "a"),
    }


def test_blurred_copy_is_found_whichever_of_the_two_is_first(
    signatures_of: Maker, photographs: list[Image.Image]
) -> None:
    """The sharp picture can be fitted to the blurred one, but not the other way."""
    sharp, blurred = photographs[1], photographs[1].filter(ImageFilter.GaussianBlur(7))
    for first, second in ((sharp, blurred), (blurred, sharp)):
        assert deduplicated(signatures_of([row("a", first, "x"), row("b", second, "y")])) == {
            "b": ("near_duplicate", "a")
        }


def test_mirrored_picture_is_another_sample_in_its_split(
    signatures_of: Maker, photographs: list[Image.Image]
) -> None:
    mirrored = photographs[0].transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert deduplicated(signatures_of([row("a", photographs[0]), row("b", mirrored)])) == {}


def test_drawings_told_apart_by_their_text_go_only_with_an_equal_one(signatures_of: Maker) -> None:
    rows = [
        row("three", chart((30, 70, 50)), "How many bars? 3", category="chart"),
        row("same", jpeg(chart((30, 70, 50)), 90), "How many bars? 3", category="chart"),
        row("other text", jpeg(chart((30, 70, 50)), 90), "Which is tallest? second", category="chart"),
    ]
    signatures = signatures_of(rows, same_text_only=("chart",))
    assert deduplicated(signatures) == {"same": ("near_duplicate", "three")}
    everywhere = signatures_of(rows, same_text_only=("*",))
    assert deduplicated(everywhere) == {"same": ("near_duplicate", "three")}
    by_picture = signatures_of(rows)
    assert set(deduplicated(by_picture)) == {"same", "other text"}


def test_drawings_in_other_colours_with_one_text_leak_but_are_no_duplicates(signatures_of: Maker) -> None:
    red, blue = drawing(colour="red"), drawing(colour="blue")
    rows = [row("red", red, "a balloon"), row("blue", blue, "a balloon")]
    assert deduplicated(signatures_of(rows)) == {}
    held_out = [rows[0], rows[1] | {"split": "test"}]
    assert deduplicated(signatures_of(held_out)) == {"red": ("in_test", "blue")}
    assert deduplicated(signatures_of(rows, same_text_only=("photo",))) == {"blue": ("near_duplicate", "red")}


def test_drawings_in_other_colours_stay(signatures_of: Maker) -> None:
    rows = [row(colour, drawing(colour=colour), f"a {colour} ball") for colour in ("red", "green", "blue")]
    assert deduplicated(signatures_of(rows)) == {}


@pytest.mark.parametrize("copy", ["equal", "recompressed", "mirrored", "mirrored and recompressed", "gray"])
def test_copies_of_test_pictures_leave_training_whatever_their_text(
    signatures_of: Maker, photographs: list[Image.Image], copy: str
) -> None:
    picture = photographs[0]
    mirrored = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    leaked = {
        "equal": picture,
        "recompressed": jpeg(picture),
        "mirrored": mirrored,
        "mirrored and recompressed": jpeg(mirrored),
        "gray": picture.convert("L").convert("RGB"),
    }[copy]
    signatures = signatures_of(
        [
            row("train", leaked, "one text"),
            row("harmless", photographs[1], "one text"),
            row("test", picture, "another text", split="test"),
        ]
    )
    assert deduplicated(signatures) == {"train": ("in_test", "test")}
    assert judged(signatures, find_leaks(signatures, CONFIG)) == {"train": ("in_test", "test")}


def test_cropped_test_pictures_leave_training_when_crops_are_looked_for(
    signatures_of: Maker, photographs: list[Image.Image]
) -> None:
    """Either way round: the training picture is a part of the test picture, or the other way."""
    part = cropped(photographs[0], 0.08)
    for train, test in ((part, photographs[0]), (photographs[0], part)):
        signatures = signatures_of([row("train", train), row("test", test, split="test")])
        assert len(find_leaks(signatures, CONFIG)) == 0
        found = judged(signatures, find_leaks(signatures, NearDuplicateConfig(crop=0.1)))
        assert found == {"train": ("in_test", "test")}


def test_validation_goes_for_test_and_training_for_validation(
    signatures_of: Maker, photographs: list[Image.Image]
) -> None:
    one, other = photographs[:2]
    signatures = signatures_of(
        [
            row("train 1", jpeg(one), "x"),
            row("train 2", jpeg(other), "y"),
            row("validation 1", one, "z", split="validation"),
            row("validation 2", other, "w", split="validation"),
            row("test", one, "v", split="test"),
        ]
    )
    expected = {
        "train 1": ("in_test", "test"),
        "train 2": ("in_validation", "validation 2"),
        "validation 1": ("in_test", "test"),
    }
    assert deduplicated(signatures) == expected
    assert judged(signatures, find_leaks(signatures, CONFIG)) == expected


def test_nearly_equal_texts_without_pictures_go_when_a_threshold_is_set(signatures_of: Maker) -> None:
    text = "The quick brown fox jumps over the lazy dog and runs into the deep dark forest."
    rows = [
        row("a", None, text),
        row("b", None, text.replace("quick", "quiet")),
        row("c", None, "Colourless green ideas sleep furiously, as everybody in this room knows."),
        row("equal", None, text),
        row("empty", None, ""),
    ]
    signatures = signatures_of([*rows, row("also empty", None, " ")])
    assert deduplicated(signatures) == {"equal": ("exact_duplicate", "a")}
    found = deduplicated(signatures, NearDuplicateConfig(text_threshold=0.7))
    assert found == {"equal": ("exact_duplicate", "a"), "b": ("near_duplicate", "a")}


def test_near_text_and_near_picture_leak_together(
    signatures_of: Maker, photographs: list[Image.Image]
) -> None:
    """A copy that was painted over in a corner: no longer the same picture, but its text gives it away."""
    painted = photographs[0].copy()
    painted.paste((255, 255, 255), (0, 0, 40, 30))
    rows = [
        row("train", painted, "an astronaut in an orange suit before a flag"),
        row("test", photographs[0], "An astronaut in an orange suit, before a flag.", split="test"),
    ]
    assert len(find_leaks(signatures_of(rows), CONFIG)) == 0
    assert len(find_leaks(signatures_of(rows), NearDuplicateConfig(text_threshold=0.6))) == 1
    other_text = [rows[0] | {"text": "something else entirely, much longer than that"}, rows[1]]
    assert len(find_leaks(signatures_of(other_text), NearDuplicateConfig(text_threshold=0.6))) == 0


def test_switched_off_rules_find_only_equal_samples(
    signatures_of: Maker, photographs: list[Image.Image]
) -> None:
    off = NearDuplicateConfig(same_text_distance=-1, image_distance=-1)
    signatures = signatures_of(
        [
            row("a", photographs[0], "x"),
            row("near", jpeg(photographs[0]), "x"),
            row("equal", photographs[0], "x"),
            row("test", photographs[1], "t", split="test"),
            row("leak", photographs[1], "l"),
        ]
    )
    assert deduplicated(signatures, off) == {
        "equal": ("exact_duplicate", "a"),
        "leak": ("in_test", "test"),
    }


def test_evaluation_set_is_removed_from_training_once_it_is_added(
    signatures_of: Maker, photographs: list[Image.Image], tmp_path: Path
) -> None:
    rows = [row("train", jpeg(photographs[2]), "a cat"), row("test", photographs[2], "cat", split="test")]
    signatures = signatures_of([rows[0], row("kept", photographs[0], "x")])
    assert deduplicated(signatures) == {}
    table = pa.Table.from_pylist([row("17", photographs[2], "cat", split="train")], schema=SCHEMA)
    path = tmp_path / "pets.parquet"
    write_evaluation_set(path, "pets", table)
    sets = read_evaluation_sets([str(path)])
    assert [each.name for each in sets] == ["pets"]
    for verdicts in (deduplicate(signatures, CONFIG, sets), find_leaks(signatures, CONFIG, sets)):
        assert judged(signatures, verdicts) == {"train": ("in_evaluation", "pets/17")}
        assert verdicts.evidence[0].startswith("hashes differ in")
    own_test = signatures_of([rows[1]])
    assert (
        len(deduplicate(own_test, CONFIG, sets)) == 0
    )  # an evaluation set is no reason to lose a test sample


def test_evaluation_set_that_is_missing_or_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        read_evaluation_sets([str(tmp_path / "none.parquet")])
    other = tmp_path / "other.parquet"
    pa.parquet.write_table(pa.table({"key": ["a"]}), other)
    with pytest.raises(ConfigError, match="not an evaluation set"):
        read_evaluation_sets([str(other)])
    (tmp_path / "text.parquet").write_text("no parquet")
    with pytest.raises(ConfigError, match="not an evaluation set"):
        read_evaluation_sets([str(tmp_path / "text.parquet")])


def test_signatures_refuse_what_they_cannot_judge(photographs: list[Image.Image]) -> None:
    good = row("a", photographs[0])
    for bad, message in (
        (good | {"split": "training"}, "unknown split"),
        (good | {"pixels_sha256": "not hexadecimal!"}, "hexadecimal"),
        (good | {"thumbnail": None}, "no thumbnail"),
    ):
        with pytest.raises(ConfigError, match=message):
            Signatures.of(pa.Table.from_pylist([bad], schema=SCHEMA))
    with pytest.raises(ConfigError, match="columns"):
        Signatures.of(pa.table({"key": ["a"]}))


def test_empty_tables_have_no_duplicates(signatures_of: Maker) -> None:
    assert len(deduplicate(signatures_of([]), CONFIG)) == 0
    assert len(find_leaks(signatures_of([]), CONFIG, [EvaluationSet("none", signatures_of([]))])) == 0


def test_many_copies_of_one_picture_keep_one(
    signatures_of: Maker, photographs: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many pairs as samples squared: they are never listed."""
    monkeypatch.setattr(alike_module, "MOST_PAIRS", 100)
    base = row("first", photographs[0], "x")
    rows = [
        base | {"key": f"{n}", "pixels_sha256": f"{n:064x}", "text_sha256": f"{n:064x}"}
        for n in range(1, 300)
    ]
    found = deduplicated(signatures_of([base, *rows]))
    assert len(found) == 299 and set(found.values()) == {("near_duplicate", "first")}


@dataclass(frozen=True)
class Pool:
    """Pictures, and which of them are alike, found pair by pair."""

    pictures: list[Image.Image]
    distance: np.ndarray
    same: np.ndarray
    same_or_mirrored: np.ndarray


@pytest.fixture(scope="module")
def pool(photographs: list[Image.Image]) -> Pool:
    """Many pictures are alike, in chains too: growing crops, and drawings that move."""
    crops = [cropped(photographs[1], share) for share in (0, 0.015, 0.03, 0.045, 0.06)]
    moved = [drawing(left=left) for left in (18, 19, 20, 22, 24, 27, 30)]
    pictures = [*photographs[:3], *map(jpeg, photographs[:3]), *crops, *moved]
    thumbs = np.frombuffer(b"".join(map(thumbnail, pictures)), np.uint8).reshape(len(pictures), -1)
    pairs = np.array(list(product(range(len(pictures)), repeat=2)))
    square = (len(pictures), len(pictures))
    whole, distance = np.zeros(square, bool), np.zeros(square, int)
    either = np.zeros(square, bool)
    for view in views(crop=0.0, mirrored=True):
        seen, hashes = (hash_views(gray_of(thumbs), (each,))[0] for each in (view, View()))
        near = np.bitwise_count(seen[pairs[:, 0]] ^ hashes[pairs[:, 1]]) <= CONFIG.image_distance
        same = same_pictures(thumbs, pairs, view, are_photographs(thumbs), CONFIG) & near
        either |= same.reshape(square) | same.reshape(square).T
        if not view.mirrored:
            whole, distance = either.copy(), np.bitwise_count(hashes[:, None] ^ hashes)
    return Pool(pictures, distance, whole, either)


@st.composite
def samples(draw: st.DrawFn) -> list[tuple[int, int, str, str]]:
    """Picture, text, split and category of up to 30 samples, most of them alike to some other."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pictures = draw(st.sampled_from([4, 18]))
    return [
        (
            int(generator.integers(pictures)),
            int(generator.integers(3)),
            SPLITS[generator.integers(3)],
            ("photo", "chart")[generator.integers(2)],
        )
        for _ in range(draw(st.integers(0, 30)))
    ]


@settings(max_examples=40)
@given(samples(), st.sampled_from([2, 1_000_000]))
def test_deduplicate_keeps_none_alike_and_drops_none_without_a_kept_one(
    signatures_of: Maker, pool: Pool, drawn: list[tuple[int, int, str, str]], most: int
) -> None:
    signatures = signatures_of(_rows(pool, drawn), same_text_only=("chart",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alike_module, "MOST_PAIRS", most)
        found = deduplicated(signatures)
    same = _alike_by_the_rules(pool, drawn)
    kept = [place for place in range(len(drawn)) if str(place) not in found]
    assert not same[np.ix_(kept, kept)].any()
    for key, (code, other) in found.items():
        assert int(other) in kept and same[int(key), int(other)]
        mine, theirs = signatures.split[int(key)], signatures.split[int(other)]
        assert mine >= theirs  # what is held out never goes for what is not
        assert (code in ("exact_duplicate", "near_duplicate")) == (mine == theirs)
    left = signatures_of(_rows(pool, drawn, kept), same_text_only=("chart",))
    assert len(find_leaks(left, CONFIG)) == 0


def _rows(
    pool: Pool, drawn: list[tuple[int, int, str, str]], places: list[int] | None = None
) -> list[dict[str, object]]:
    return [
        row(str(place), pool.pictures[picture], f"text {text}", split=split, category=category)
        for place, (picture, text, split, category) in enumerate(drawn)
        if places is None or place in places
    ]


def _alike_by_the_rules(pool: Pool, drawn: list[tuple[int, int, str, str]]) -> np.ndarray:
    """The docstring of `alike`, pair by pair."""
    found = np.zeros((len(drawn), len(drawn)), bool)
    for (i, one), (j, other) in product(enumerate(drawn), repeat=2):
        picture, text, split, category = one
        picture_2, text_2, split_2, category_2 = other
        equal = pool.pictures[picture].tobytes() == pool.pictures[picture_2].tobytes()
        by_text = text == text_2 and pool.distance[picture, picture_2] <= CONFIG.same_text_distance
        by_text = by_text and (split != split_2 or category == category_2 == "chart")
        same = pool.same if split == split_2 else pool.same_or_mirrored
        by_picture = not equal and same[picture, picture_2] and "chart" not in (category, category_2)
        by_pixels = equal and (text == text_2 or split != split_2)
        found[i, j] = i != j and (by_text or by_picture or by_pixels)
    return found


@settings(max_examples=30)
@given(samples(), st.integers(0, 2**32 - 1))
def test_deduplicate_does_not_depend_on_how_splits_are_interleaved(
    signatures_of: Maker, pool: Pool, drawn: list[tuple[int, int, str, str]], seed: int
) -> None:
    rows = _rows(pool, drawn)
    places = np.random.default_rng(seed).permutation(len(rows))
    shuffled: list[dict[str, object]] = [rows[place] for place in places]
    per_split = {split: iter([each for each in rows if each["split"] == split]) for split in SPLITS}
    interleaved = [next(per_split[str(each["split"])]) for each in shuffled]
    assert deduplicated(signatures_of(interleaved)) == deduplicated(signatures_of(rows))
