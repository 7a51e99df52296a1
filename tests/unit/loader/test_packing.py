"""Plans: budgets, completeness, mixture, curriculum, exhaustion; the same packs for any reader of them."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.artifacts import Checkpoint, Dataset
from components.errors import ConfigError
from components.loader import (
    IGNORED,
    Collator,
    Encoded,
    Feed,
    Item,
    Packing,
    Part,
    Plan,
    encode,
    load_plan,
    make_plan,
    pack_once,
    read_samples,
    save_plan,
)
from components.loader.items import build_items
from components.loader.mixing import Drawing, Pool
from components.loader.packing import Strategy
from components.vlm import load_processor
from components.vlm.families import Family, family_of

WEIGHTS = {"vqa": 2.0, "caption": 1.0, "digits": 1.0, "chart": 0.0}
HOW = Packing(
    pack_tokens=256, pack_images=4, packs_per_step=2, text_only_share=0.2, max_shift={"vqa": 3}, seed=3
)


@pytest.fixture(scope="module")
def family(tiny_checkpoint: Checkpoint) -> Family:
    return family_of(load_processor(tiny_checkpoint.path))


@pytest.fixture(scope="module")
def encoded(tiny_dataset: Dataset, family: Family) -> Encoded:
    return encode(read_samples(tiny_dataset, "train"), family)


def _plan(encoded: Encoded, *parts: Part, how: Packing = HOW) -> Plan:
    return make_plan(encoded, parts or [Part(WEIGHTS, steps=40)], how)


def _items(plan: Plan) -> list[Item]:
    return list(itertools.chain(*(plan.pack(number) for number in range(plan.num_packs))))


def _categories(encoded: Encoded, items: list[Item]) -> Counter[str]:
    return Counter(encoded.categories[encoded.category_S[item.sample]] for item in items)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pack_tokens=st.integers(70, 700), pack_images=st.integers(1, 12), one_turn=st.booleans())
def test_pack_once_any_budget_packs_every_turn_once_within_it(
    encoded: Encoded, pack_tokens: int, pack_images: int, one_turn: bool
) -> None:
    how = Packing(pack_tokens=pack_tokens, pack_images=pack_images, packs_per_step=1, one_turn=one_turn)
    packs = pack_once(encoded, range(len(encoded)), how)
    turns = [
        turn
        for item in itertools.chain(*packs)
        for turn in range(item.first_turn, item.first_turn + item.num_turns)
    ]
    assert sorted(turns) == list(range(int(encoded.turn_S[-1])))
    for pack in packs:
        assert sum(item.num_tokens for item in pack) <= pack_tokens
        assert sum(item.image for item in pack) <= pack_images
        assert all(item.num_turns == 1 for item in pack) or not one_turn


def test_build_items_turn_longer_than_pack_is_dropped_and_named_or_refused(encoded: Encoded) -> None:
    turns = encoded.with_image
    length_S = [
        len(turns.trunk(sample)) + int(np.diff(turns.start_T)[encoded.turn_S[sample]])
        for sample in range(len(encoded))
    ]
    budget = int(np.median(length_S))
    limits = {"image": True, "pack_tokens": budget, "pack_images": 4}
    with pytest.raises(ConfigError, match="pack_tokens") as caught:
        build_items(encoded, **limits, too_long="error")  # type: ignore[arg-type]
    items = build_items(encoded, **limits, too_long="drop")  # type: ignore[arg-type]
    assert items.dropped
    assert items.dropped[0] in str(caught.value)
    assert (items.tokens_K <= budget).all()
    kept = sum(items.num_turns_K)
    assert 0 < kept < encoded.turn_S[-1]


def test_plan_long_run_labelled_tokens_follow_the_weights(encoded: Encoded) -> None:
    plan = _plan(encoded, Part(WEIGHTS, steps=300))
    labelled: Counter[str] = Counter()
    for sample, number in zip(plan.rows["sample"], plan.rows["labelled"], strict=True):
        labelled[encoded.categories[encoded.category_S[sample]]] += int(number)
    assert labelled["chart"] == 0
    assert labelled["vqa"] / labelled.total() == pytest.approx(0.5, abs=0.05)
    assert labelled["digits"] / labelled.total() == pytest.approx(0.25, abs=0.05)


def test_plan_weights_by_samples_are_shares_of_samples(encoded: Encoded) -> None:
    plan = _plan(encoded, Part(WEIGHTS, steps=300), how=dataclasses.replace(HOW, by_samples=True))
    drawn = _categories(encoded, _items(plan))
    assert drawn["vqa"] / drawn.total() == pytest.approx(0.5, abs=0.05)


def test_plan_phases_have_their_own_mixtures_and_lengths(encoded: Encoded) -> None:
    plan = _plan(encoded, Part({"vqa": 1.0}, steps=5), Part({"digits": 1.0}, tokens=3000))
    assert plan.steps_of(0) == 5
    first, rest = _items(plan)[: int(plan.first_P[10])], _items(plan)[int(plan.first_P[10]) :]
    assert set(_categories(encoded, first)) == {"vqa"}
    assert set(_categories(encoded, rest)) == {"digits"}
    tokens = sum(item.num_tokens for item in rest)
    assert 3000 <= tokens < 3000 + HOW.packs_per_step * HOW.pack_tokens


def test_plan_category_that_ends_leaves_the_mixture_and_others_go_on(encoded: Encoded) -> None:
    how = dataclasses.replace(HOW, max_epochs={"vqa": 1.0, "digits": 2.0}, text_only_share=0.0)
    plan = _plan(encoded, Part(WEIGHTS, steps=60), how=how)
    times = Counter(item.sample for item in _items(plan))
    by_category: dict[str, set[int]] = {}
    for sample, number in times.items():
        by_category.setdefault(encoded.categories[encoded.category_S[sample]], set()).add(number)
    assert max(by_category["vqa"]) == 1
    assert max(by_category["digits"]) == 2
    assert min(by_category["caption"]) > 2


def test_plan_when_every_category_has_ended_has_all_whole_steps_or_says_what_to_do(encoded: Encoded) -> None:
    how = dataclasses.replace(HOW, max_epochs={"vqa": 1.0})
    plan = _plan(encoded, Part({"vqa": 1.0}, steps=500), how=how)
    assert 0 < plan.num_steps < 500
    with pytest.raises(ConfigError, match="max_epochs"):
        _plan(encoded, Part({"vqa": 1.0}, steps=500), how=dataclasses.replace(how, packs_per_step=100))


@pytest.mark.parametrize("strategy", ["pooled", "greedy_knapsack", "balanced_knapsack", "next_fit"])
def test_plan_short_phase_keeps_the_mixture_whatever_the_packer_puts_first(
    encoded: Encoded, strategy: Strategy
) -> None:
    """What is cut off behind the last step is like the rest: no packer's order bends the mixture."""
    labelled: Counter[str] = Counter()
    for seed in range(30):
        how = dataclasses.replace(HOW, strategy=strategy, seed=seed, text_only_share=0.0)
        plan = _plan(encoded, Part({"vqa": 1.0, "caption": 1.0}, steps=5), how=how)
        for sample, number in zip(plan.rows["sample"], plan.rows["labelled"], strict=True):
            labelled[encoded.categories[encoded.category_S[sample]]] += int(number)
    assert labelled["vqa"] / labelled.total() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("strategy", ["pooled", "balanced_knapsack"])
def test_plan_a_step_is_a_sample_of_the_mixture(encoded: Encoded, strategy: Strategy) -> None:
    """A packer puts alike packs side by side. Were a step made of them, its gradient would be one category's:
    a short run then ended at 3.5 nats where it ends at 2.7."""

    def categories_per_step(strategy: Strategy) -> float:
        how = dataclasses.replace(HOW, strategy=strategy, packs_per_step=3)
        plan = _plan(encoded, Part(dict.fromkeys(WEIGHTS, 1.0), steps=200), how=how)
        steps = [list(itertools.chain(*plan.step(number))) for number in range(plan.num_steps)]
        return float(np.mean([len(_categories(encoded, items)) for items in steps]))

    # One behind another, as they were drawn, is as mixed as chance makes it.
    assert categories_per_step(strategy) > 0.88 * categories_per_step("next_fit")


def test_plan_samples_behind_a_phase_are_not_spent(encoded: Encoded) -> None:
    how = dataclasses.replace(HOW, max_epochs={"vqa": 1.0}, text_only_share=0.0)
    whole = _plan(encoded, Part({"vqa": 1.0}, steps=500), how=how)
    first = Part({"vqa": 1.0}, steps=max(1, whole.num_steps // 3))
    both = _plan(encoded, first, Part({"vqa": 1.0}, steps=500), how=how)
    assert abs(both.num_steps - whole.num_steps) <= 2
    assert max(Counter(item.sample for item in _items(both)).values()) == 1


def test_drawing_an_epoch_shows_every_sample_once_before_any_twice() -> None:
    pool = Pool({"a": np.arange(7), "b": np.arange(7, 12)}, {"a": 1.0, "b": 3.0})
    drawing = Drawing(pool, seed=0)
    drawn = np.concatenate([drawing.draw({"a": 1.0, "b": 1.0}, number) for number in (3, 10, 200)])
    for samples in pool.samples.values():
        own = drawn[np.isin(drawn, samples)]
        for start in range(0, len(own) - len(samples), len(samples)):
            assert sorted(own[start : start + len(samples)]) == samples.tolist()
    # A sample of the one weighs three times as much, so a quarter of the draws give it half the weight.
    assert np.isin(drawn, pool.samples["b"]).mean() == pytest.approx(0.25, abs=0.08)


def test_drawing_what_is_given_back_is_drawn_first_and_counts_as_undrawn() -> None:
    drawing = Drawing(Pool({"a": np.arange(5)}, {"a": 1.0}), seed=0, max_epochs={"a": 1.0})
    drawn = drawing.draw({"a": 1.0}, 4)
    drawing.give_back(drawn[1:3])
    rest = drawing.draw({"a": 1.0}, 100)
    assert rest[:2].tolist() == drawn[1:3].tolist()
    assert sorted([drawn[0], drawn[3], *rest]) == [0, 1, 2, 3, 4]


def test_plan_moves_only_images_of_the_categories_named(encoded: Encoded) -> None:
    shifts: dict[str, set[int]] = {}
    for item in _items(_plan(encoded, Part(WEIGHTS, steps=100))):
        name = encoded.categories[encoded.category_S[item.sample]] if item.image else "text only"
        shifts.setdefault(name, set()).update(item.shift)
    assert shifts.pop("vqa") == set(range(-3, 4))
    assert all(found == {0} for found in shifts.values())


def test_plan_text_only_share_shows_that_share_without_image(encoded: Encoded) -> None:
    items = _items(_plan(encoded, Part(WEIGHTS, steps=200)))
    assert sum(not item.image for item in items) / len(items) == pytest.approx(0.2, abs=0.05)


def test_plan_same_seed_gives_same_packs_and_another_seed_others(encoded: Encoded) -> None:
    first, again = _plan(encoded), _plan(encoded)
    other = _plan(encoded, how=dataclasses.replace(HOW, seed=4))
    assert _items(first) == _items(again)
    assert _items(first) != _items(other)


def test_plan_saved_and_loaded_is_the_same_and_names_samples(encoded: Encoded, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    plan, path = _plan(encoded), tmp_path / "packplan.parquet"
    save_plan(plan, path, encoded.keys)
    loaded = load_plan(path)
    assert [loaded.pack(number) for number in range(loaded.num_packs)] == [
        plan.pack(number) for number in range(plan.num_packs)
    ]
    table = pq.read_table(path).to_pandas()
    assert (table["key"] == [encoded.keys[sample] for sample in table["sample"]]).all()
    for _, rows in table.groupby("pack"):
        assert rows["offset"].tolist() == [0, *np.cumsum(rows["tokens"])[:-1]]


def test_plan_weight_on_unknown_category_is_refused(encoded: Encoded) -> None:
    with pytest.raises(ConfigError, match="video"):
        _plan(encoded, Part({"video": 1.0}, steps=1))


def test_feed_workers_do_not_run_what_the_parents_threads_registered_for_the_end(
    encoded: Encoded, family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop() -> None:  # as Prefect's services do, whose loop a forked process has not
        raise RuntimeError("a thread of the parent's")

    monkeypatch.setattr(
        threading,
        "_threading_atexits",
        [*threading._threading_atexits, functools.partial(stop)],  # type: ignore[attr-defined]
    )
    plan = _plan(encoded, Part(WEIGHTS, steps=6), how=dataclasses.replace(HOW, packs_per_step=4))
    for _ in range(3):
        steps = Feed(plan, Collator(encoded, family)).steps(range(6), workers=2)
        assert [step.number for step in steps] == list(range(6))


def test_feed_any_number_of_workers_ranks_and_forwards_reads_the_same(
    encoded: Encoded, family: Family
) -> None:
    plan, collate = (
        _plan(encoded, Part(WEIGHTS, steps=6), how=dataclasses.replace(HOW, packs_per_step=4)),
        Collator(encoded, family),
    )

    def tokens(feeds: list[Feed], workers: int) -> list[list[list[int]]]:
        """Of each step, its packs' tokens without padding."""
        streams = [feed.steps(range(2, 6), workers=workers) for feed in feeds]
        whole = []
        for steps in zip(*streams, strict=True):
            rows = [
                row
                for step in steps
                for batch in step.batches
                for row in _rows(batch.input_ids_BL, batch.category_BL)
            ]
            whole.append(sorted(rows))
        return whole

    expected = tokens([Feed(plan, collate)], 0)
    assert tokens([Feed(plan, collate)], 2) == expected
    assert tokens([Feed(plan, collate, packs_per_forward=1)], 0) == expected
    assert tokens([Feed(plan, collate, rank=rank, ranks=4) for rank in range(4)], 0) == expected
    assert expected[1] == sorted(
        row
        for number in range(12, 16)
        for batch in [collate([plan.pack(number)])]
        for row in _rows(batch.input_ids_BL, batch.category_BL)
    )


def _rows(ids_BL: torch.Tensor, category_BL: torch.Tensor) -> list[list[int]]:
    return [ids[category >= 0].tolist() for ids, category in zip(ids_BL, category_BL, strict=True)]


def test_feed_packs_that_cannot_be_dealt_evenly_name_the_setting(encoded: Encoded, family: Family) -> None:
    with pytest.raises(ConfigError, match="packs_per_step"):
        Feed(_plan(encoded), Collator(encoded, family), ranks=3)


def test_feed_labelled_tokens_of_the_plan_are_those_of_the_batches(encoded: Encoded, family: Family) -> None:
    feed = Feed(_plan(encoded), Collator(encoded, family))
    for step in feed.steps(range(5)):
        found = sum(int((batch.labels_BL[:, 1:] != IGNORED).sum()) for batch in step.batches)
        assert found == step.labelled


@pytest.mark.parametrize("isolation", ["mask", "varlen"])
def test_collator_text_only_batch_gets_an_image_that_nothing_is_learned_from(
    encoded: Encoded, family: Family, isolation: str
) -> None:
    how = dataclasses.replace(HOW, text_only_share=0.999, one_turn=isolation == "varlen")
    plan = _plan(encoded, Part(WEIGHTS, steps=30), how=how)
    packs = next(
        packs
        for packs in (plan.step(number) for number in range(30))
        if not any(item.image for pack in packs for item in pack)
    )
    plain = Collator(encoded, family, isolation=isolation)(packs)  # type: ignore[arg-type]
    spared = Collator(encoded, family, isolation=isolation, always_image=True)(packs)  # type: ignore[arg-type]
    assert plain.images is None
    assert spared.images is not None
    assert spared.images["pixel_values"].shape[1] == 1
    assert int((spared.labels_BL != IGNORED).sum()) == int((plain.labels_BL != IGNORED).sum())
    assert spared.num_tokens == plain.num_tokens
    assert spared.num_samples == plain.num_samples
