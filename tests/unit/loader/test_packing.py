"""Packs: budgets, completeness, determinism, exact resumption; and that packing changes no number."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.artifacts import Checkpoint, Dataset
from components.errors import ConfigError
from components.loader import Encoded, PackStream, encode, moved, pack_once, read_samples
from components.vlm import load_processor

WEIGHTS = {"vqa": 2.0, "caption": 1.0, "digits": 1.0, "chart": 0.0}


@pytest.fixture(scope="module")
def encoded(tiny_dataset: Dataset, tiny_checkpoint: Checkpoint) -> Encoded:
    return encode(read_samples(tiny_dataset, "train"), load_processor(tiny_checkpoint.path))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pack_tokens=st.integers(70, 700), pack_images=st.integers(1, 12))
def test_pack_once_any_budget_packs_every_turn_once_within_it(
    encoded: Encoded, pack_tokens: int, pack_images: int
) -> None:
    packs = pack_once(encoded, range(len(encoded)), pack_tokens=pack_tokens, pack_images=pack_images)
    turns = [
        turn
        for item in itertools.chain(*packs)
        for turn in range(item.first_turn, item.first_turn + item.num_turns)
    ]
    assert sorted(turns) == list(range(int(encoded.turn_S[-1])))
    for pack in packs:
        assert sum(item.num_tokens for item in pack) <= pack_tokens
        assert sum(item.image for item in pack) <= pack_images


def test_pack_once_turn_longer_than_pack_names_the_setting(encoded: Encoded) -> None:
    with pytest.raises(ConfigError, match="pack_tokens"):
        pack_once(encoded, [0], pack_tokens=24, pack_images=1)


def _stream(encoded: Encoded, seed: int = 3) -> PackStream:
    return PackStream(
        encoded, WEIGHTS, seed=seed, pack_tokens=256, pack_images=4, text_only_share=0.2, max_shift={"vqa": 3}
    )


def test_stream_moves_only_images_of_the_categories_named(encoded: Encoded) -> None:
    items = list(itertools.chain(*itertools.islice(_stream(encoded), 200)))
    shifts: dict[str, set[int]] = {}
    for item in items:
        name = encoded.categories[encoded.category_S[item.sample]] if item.image else "text only"
        shifts.setdefault(name, set()).update(item.shift)
    assert shifts.pop("vqa") == set(range(-3, 4))
    assert all(found == {0} for found in shifts.values())


def test_moved_image_keeps_its_pixels_and_repeats_the_border() -> None:
    image = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
    right_up = moved(image, 2, -1)
    assert np.array_equal(right_up[:, :3, 2:], image[:, 1:, :3])
    assert np.array_equal(right_up[:, :3, :2], image[:, 1:, :1].repeat(2, axis=2))
    assert np.array_equal(right_up[:, 3], right_up[:, 2])
    assert np.array_equal(moved(image, 0, 0), image)


def test_stream_same_seed_gives_same_packs_and_another_seed_others(encoded: Encoded) -> None:
    first, again, other = (list(itertools.islice(_stream(encoded, seed), 30)) for seed in (3, 3, 4))
    assert first == again
    assert first != other


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=st.integers(0, 60))
def test_stream_resumed_anywhere_goes_on_with_the_same_packs(encoded: Encoded, before: int) -> None:
    whole = list(itertools.islice(_stream(encoded), before + 20))
    stopped = _stream(encoded)
    assert list(itertools.islice(stopped, before)) == whole[:before]
    resumed = _stream(encoded)
    resumed.load_state_dict(json.loads(json.dumps(stopped.state_dict())))
    assert list(itertools.islice(resumed, 20)) == whole[before:]


def test_stream_long_run_labelled_tokens_follow_the_weights(encoded: Encoded) -> None:
    stream = _stream(encoded)
    packed = list(itertools.chain(*itertools.islice(stream, 600)))
    # What was drawn is what was packed and what still waits (small items wait longer).
    labelled = dict.fromkeys(encoded.categories, 0)
    for item in [*packed, *stream.pool]:
        turns = range(item.first_turn, item.first_turn + item.num_turns)
        texts = encoded.turns(item.image)
        labelled[encoded.categories[encoded.category_S[item.sample]]] += sum(
            int(texts.start_T[turn + 1] - texts.start_T[turn] - texts.answer_T[turn]) for turn in turns
        )
    assert labelled["chart"] == 0
    assert labelled["vqa"] / sum(labelled.values()) == pytest.approx(0.5, abs=0.05)
    assert labelled["digits"] / sum(labelled.values()) == pytest.approx(0.25, abs=0.05)


def test_stream_weight_on_unknown_category_is_refused(encoded: Encoded) -> None:
    with pytest.raises(ConfigError, match="video"):
        PackStream(encoded, {"video": 1.0}, seed=0, pack_tokens=256, pack_images=4)


def test_stream_text_only_share_shows_that_share_without_image(encoded: Encoded) -> None:
    items = list(itertools.chain(*itertools.islice(_stream(encoded), 400)))
    assert sum(not item.image for item in items) / len(items) == pytest.approx(0.2, abs=0.05)
