from __future__ import annotations

import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.curate.duplicates import shingles as module
from components.curate.duplicates.minhash import (
    PERMUTATIONS,
    band_keys,
    choose_bands,
    minhash,
    propose_between,
    propose_within,
)
from components.curate.duplicates.shingles import ShingleSets, jaccard, shingle

TEXTS = st.lists(st.text(st.sampled_from("ab  \nAé日"), max_size=14), min_size=1, max_size=12)


def plain_sets(texts: list[str], words: int) -> list[set[str]]:
    """Shingles in the plainest form."""
    found = []
    for text in texts:
        folded = " ".join(unicodedata.normalize("NFKD", text).lower().split())
        units = [f"{word} " for word in folded.split()] if words else list(folded)
        length = words or module.CHARACTERS
        runs = range(max(1, len(units) - length + 1)) if units else range(0)
        found.append({"".join(units[start : start + length]) for start in runs})
    return found


@given(TEXTS, st.sampled_from([0, 1, 3]))
def test_shingles_and_similarity_are_those_of_plain_sets(texts: list[str], words: int) -> None:
    sets, plain = shingle(pa.array(texts), words=words), plain_sets(texts, words)
    assert sets.sizes.tolist() == [len(each) for each in plain]
    left, right = (each.ravel() for each in np.meshgrid(np.arange(len(texts)), np.arange(len(texts))))
    expected = [
        len(plain[one] & plain[other]) / max(1, len(plain[one] | plain[other]))
        for one, other in zip(left, right, strict=True)
    ]
    assert np.allclose(jaccard(sets, left, right), expected)


def test_shingles_do_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = pa.array([f"the quick brown fox number {number} jumps" for number in range(50)] + [None, ""])
    whole = shingle(texts, words=2)
    similar = jaccard(whole, np.zeros(52, np.int64), np.arange(52))
    monkeypatch.setattr(module, "BYTES_AT_ONCE", 100)
    monkeypatch.setattr(module, "SHINGLES_AT_ONCE", 10)
    pieces = shingle(texts, words=2)
    assert (pieces.values == whole.values).all() and (pieces.offsets == whole.offsets).all()
    assert (jaccard(pieces, np.zeros(52, np.int64), np.arange(52)) == similar).all()


def overlapping(shared: float, num: int) -> ShingleSets:
    """Pairs of sets, `num` of them, whose Jaccard similarity is `shared`."""
    generator = np.random.default_rng(7)
    size, common = 60, round(2 * 60 * shared / (1 + shared))
    values, offsets = [], [0]
    for _ in range(num):
        pool = generator.choice(1 << 40, 2 * size - common, replace=False).astype(np.uint64)
        for own in (pool[:size], pool[size - common :]):
            values.append(np.sort(own))
            offsets.append(offsets[-1] + len(own))
    return ShingleSets(np.concatenate(values), np.array(offsets))


@pytest.mark.parametrize("shared", [0.2, 0.5, 0.8])
def test_minhash_agrees_as_often_as_sets_are_alike(shared: float) -> None:
    """300 pairs × 128 permutations: the standard error of the mean is below 0.003."""
    sets = overlapping(shared, 300)
    signatures = minhash(sets)
    left, right = np.arange(0, 600, 2), np.arange(1, 600, 2)
    estimate = (signatures[left] == signatures[right]).mean()
    assert abs(estimate - jaccard(sets, left, right).mean()) < 0.01


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.9])
def test_bands_propose_most_pairs_at_the_threshold(threshold: float) -> None:
    bands, rows = choose_bands(threshold)
    assert bands * rows <= PERMUTATIONS
    sets = overlapping(threshold, 400)
    keys = band_keys(minhash(sets), threshold)
    proposed = {
        (int(one), int(other))
        for left, right in propose_within(keys)
        for one, other in zip(left, right, strict=True)
    }
    found = sum((row, row + 1) in proposed for row in range(0, 800, 2))
    assert found / 400 > 0.9
    strangers = len(proposed) - found
    assert strangers < 400


def test_bands_propose_equal_texts_once_and_between_as_within() -> None:
    sets = shingle(pa.array(["a photograph of a red house"] * 3 + ["a drawing of three blue fish"]), words=0)
    keys = band_keys(minhash(sets), 0.7)
    within = [
        (int(one), int(other))
        for left, right in propose_within(keys)
        for one, other in zip(left, right, strict=True)
    ]
    assert sorted(within) == [(0, 1), (0, 2), (1, 2)]
    between = [
        (int(one), int(other))
        for left, right in propose_between(keys[:, :1], keys[:, 1:])
        for one, other in zip(left, right, strict=True)
    ]
    assert sorted(between) == [(0, 0), (0, 1)]
