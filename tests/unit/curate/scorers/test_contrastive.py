"""The corpus's own scorer: no pair is scored by a model that saw it, and wrong texts score lower."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from components.config.scorers import ContrastiveConfig
from components.curate.scorers.contrastive import Contrastive, assign_folds
from components.curate.scorers.pairs import Pairs
from components.errors import ConfigError

COLOURS = ("red", "green", "blue", "orange")
SHAPES = ("square", "circle")
TINY = ContrastiveConfig(vision="pixels", folds=2, epochs=12, batch_size=32, hidden=32, width=32, dropout=0.2)


def draw(colour: str, shape: str, index: int) -> Image.Image:
    image = Image.new("RGB", (70, 60), "white")
    box = (6 + index % 9, 5 + index % 7, 44 + index % 11, 42 + index % 9)
    pen = ImageDraw.Draw(image)
    (pen.rectangle if shape == "square" else pen.ellipse)(box, fill=colour)
    return image


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    """160 drawings; the first eight have the text of the opposite colour."""
    things = [(colour, shape) for colour, shape in product(COLOURS, SHAPES)] * 20
    images = [draw(colour, shape, index) for index, (colour, shape) in enumerate(things)]
    texts = [f"a {colour} {shape}" for colour, shape in things]
    texts[:8] = texts[4:8] + texts[:4]
    return Pairs(images, texts, ["shapes"] * 160, [str(index) for index in range(160)])


def test_wrong_texts_score_below_right_ones_for_any_number_of_threads(pairs: Pairs) -> None:
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    scores = Contrastive(TINY, seed=0, threads=1).score(pairs)
    wrong, right = np.array(scores[:8]), np.array(scores[8:])
    assert np.median(wrong) < 0 < np.median(right)
    assert (wrong[:, None] < right[None]).mean() > 0.9
    assert Contrastive(TINY, seed=0, threads=2).score(pairs) == scores
    assert torch.get_num_threads() == threads and torch.equal(torch.get_rng_state(), state)


def test_a_model_never_trains_on_a_picture_that_it_scores(pairs: Pairs) -> None:
    twice = Pairs(pairs.images, pairs.texts, pairs.groups, [str(index // 2) for index in range(160)])
    scorer = Contrastive(TINY, seed=0, threads=1)
    corpus, folds = scorer._corpus(twice), assign_folds(twice.keys, 2, 0)
    for fold in range(2):
        trained = {twice.keys[row] for row in scorer._build(corpus, folds == fold, fold).train.tolist()}
        scored = {twice.keys[row] for row in np.flatnonzero(folds == fold)}
        assert trained and scored and not trained & scored


def test_training_pairs_are_capped(pairs: Pairs) -> None:
    scorer = Contrastive(TINY.model_copy(update={"max_train": 30}), seed=0, threads=1)
    held_out = assign_folds(pairs.keys, 2, 0) == 0
    train = scorer._build(scorer._corpus(pairs), held_out, 0).train.numpy()
    assert len(train) == 30 and not held_out[train].any()


def test_features_given_are_used_and_a_group_with_one_text_is_not_judged(pairs: Pairs) -> None:
    features = np.eye(8, 1024, dtype=np.float32)[np.arange(160) % 8]
    groups = [*pairs.groups[:-1], "alone"]
    given_features = Pairs([], pairs.texts, groups, pairs.keys, features)
    config = TINY.model_copy(update={"vision": "open_nsfw"})
    scores = Contrastive(config, seed=0, threads=2).score(given_features)
    assert math.isnan(scores[-1]) and not any(math.isnan(score) for score in scores[:-1])
    assert max(scores[:8]) < np.median(scores[8:-1])


def test_too_few_pictures_to_learn_from_are_refused(pairs: Pairs) -> None:
    few = Pairs(pairs.images, pairs.texts, pairs.groups, ["the same"] * 160)
    with pytest.raises(ConfigError, match="1 pictures are too few"):
        Contrastive(TINY, seed=0, threads=1).score(few)


@given(st.lists(st.text(max_size=3), min_size=1, max_size=60), st.integers(2, 7), st.integers(0, 9))
def test_folds_keep_keys_together_and_hold_equally_many(keys: list[str], folds: int, seed: int) -> None:
    assigned = assign_folds(keys, folds, seed).tolist()
    of_key = dict(zip(keys, assigned, strict=True))
    assert [of_key[key] for key in keys] == assigned
    sizes = [list(of_key.values()).count(fold) for fold in range(folds)]
    assert max(sizes) - min(sizes) <= 1
