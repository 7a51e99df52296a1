"""Every family: packs equal to singles, what its processor gives, and checks that can fail.

The models are tiny and random, in fp32. Singles go through each model's own forward on its own processor's
inputs: nothing of ours. (The largest differences were 2.4e-6 in a token's loss and 8e-7 in a gradient.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from singles import (
    Reference,
    Single,
    Sizes,
    TinyPack,
    additive,
    difference,
    gradients,
    make_single,
    noise,
    pack_masked,
    pack_varlen,
    packed,
    reference,
)
from tiny_families import FAMILIES, tiny_family
from transformers import PreTrainedModel

from components.errors import ConfigError, SourceError
from components.vlm.families import Family, family_of

TOLERANCE = 1e-4
BROKEN = 0.05
"""What an error of packing costs at least; it was never below 0.17 of the largest gradient."""
SAMPLES: tuple[Sizes, ...] = (((70, 41),), ((30, 64), (16, 16)), (), ((64, 64),))
"""A wide picture, two of different grids, none, and a square one that more than fills its family's tiles."""
SIZES = ((70, 41), (30, 64), (16, 16), (64, 64), (200, 31), (5, 9), (300, 200), (1, 40))

Pack = Callable[[Family, list[Single]], TinyPack]

every_family = pytest.mark.parametrize("tiny", FAMILIES, indirect=True)
every_qwen = pytest.mark.parametrize("tiny", [name for name in FAMILIES if "qwen" in name], indirect=True)


@dataclass(frozen=True)
class Tiny:
    """A family, and its samples alone."""

    family: Family
    model: PreTrainedModel
    singles: list[Single]
    alone: Reference


@pytest.fixture(scope="module")
def tiny(request: pytest.FixtureRequest) -> Tiny:
    family, model = tiny_family(request.param)
    singles = [make_single(family, sizes) for sizes in SAMPLES]
    return Tiny(family, model, singles, reference(family, model, singles))


def one_row(family: Family, singles: list[Single]) -> TinyPack:
    return pack_masked(family, [singles])


def two_rows(family: Family, singles: list[Single]) -> TinyPack:
    return pack_masked(family, [singles[:-2], singles[-2:]])


@every_family
@pytest.mark.parametrize("pack", [one_row, two_rows, pack_varlen])
def test_pack_of_samples_with_pictures_equals_each_alone(tiny: Tiny, pack: Pack) -> None:
    found = difference(tiny.family, tiny.model, pack(tiny.family, tiny.singles), tiny.alone)
    assert found.loss <= TOLERANCE and found.gradient <= TOLERANCE, found


@every_family
@pytest.mark.parametrize("pack", [one_row, pack_varlen])
def test_pack_of_texts_equals_each_alone(tiny: Tiny, pack: Pack) -> None:
    texts = [tiny.singles[SAMPLES.index(())]] * 3
    expected = reference(tiny.family, tiny.model, texts)
    found = difference(tiny.family, tiny.model, pack(tiny.family, texts), expected)
    assert found.loss <= TOLERANCE and found.gradient <= TOLERANCE, found


def without_isolation(pack: TinyPack) -> TinyPack:
    """Every token sees all that stand before it, of other samples too."""
    length = pack.ids_BL.shape[1]
    return replace(pack, attention={"attention_mask": additive(torch.ones(1, length, length).bool().tril())})


def one_sequence(pack: TinyPack) -> TinyPack:
    """The lengths say that the row is one sample."""
    length = pack.ids_BL.shape[1]
    ends = torch.tensor([0, length]).int()
    attention = {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": length, "max_length_k": length}
    return replace(pack, attention=attention)


def counted_through(pack: TinyPack) -> TinyPack:
    """One ramp of positions over the pack."""
    ramp = torch.arange(pack.ids_BL.shape[1]).expand(pack.positions_ABL.shape)
    return replace(pack, positions_ABL=ramp)


def counted_as_text(pack: TinyPack) -> TinyPack:
    """Positions restart at each sample and know nothing of rows and columns."""
    start = torch.cummax((pack.positions_ABL[0, 0] == 0) * torch.arange(pack.ids_BL.shape[1]), 0).values
    counted = torch.arange(pack.ids_BL.shape[1]) - start
    return replace(pack, positions_ABL=counted.expand(pack.positions_ABL.shape))


@every_family
@pytest.mark.parametrize(
    ("pack", "broken"),
    [
        (one_row, without_isolation),
        (pack_varlen, one_sequence),
        # nanoVLM's packing (huggingface/nanoVLM#201): no isolation, one ramp
        (one_row, lambda pack: counted_through(without_isolation(pack))),
        (pack_varlen, lambda pack: counted_through(one_sequence(pack))),
    ],
    ids=["mask", "varlen", "mask-ramp", "varlen-ramp"],
)
def test_pack_without_isolation_is_found_out(
    tiny: Tiny, pack: Pack, broken: Callable[[TinyPack], TinyPack]
) -> None:
    found = difference(tiny.family, tiny.model, broken(pack(tiny.family, tiny.singles)), tiny.alone)
    assert found.loss > BROKEN and found.gradient > BROKEN, found


@every_qwen
@pytest.mark.parametrize("pack", [one_row, pack_varlen])
@pytest.mark.parametrize("broken", [counted_through, counted_as_text])
def test_pack_of_isolated_samples_with_positions_of_text_is_found_out(
    tiny: Tiny, pack: Pack, broken: Callable[[TinyPack], TinyPack]
) -> None:
    """LLaMA-Factory #10283, NeMo Automodel #2172. (Families of one axis cannot be hurt so: their rotary
    positions are relative, and within a sample a ramp's differences are right.)"""
    found = difference(tiny.family, tiny.model, broken(pack(tiny.family, tiny.singles)), tiny.alone)
    assert found.loss > BROKEN and found.gradient > BROKEN, found


@every_family
@pytest.mark.parametrize("size", SIZES)
def test_pictures_become_what_the_processor_makes_of_them(tiny: Tiny, size: tuple[int, int]) -> None:
    family = tiny.family
    picture, grid = noise(*size), family.grid(*size)
    rows_RCHW = family.pixels(picture, grid)
    assert rows_RCHW.dtype == np.uint8 and rows_RCHW.shape == (family.rows(grid), *family.row_shape)
    ours = family.image_inputs(torch.from_numpy(rows_RCHW), [grid])
    theirs = dict(family.processor(text=family.marker, images=[picture], return_tensors="pt"))
    torch.testing.assert_close(
        ours["pixel_values"].flatten(), theirs["pixel_values"].flatten(), atol=1e-6, rtol=0
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in ours if name != "pixel_values")
    text = family.tokenizer(family.text(grid), add_special_tokens=False)["input_ids"]
    assert text == theirs["input_ids"][0].tolist()


@every_family
def test_moved_picture_is_the_picture_that_was_moved_before_it_was_cut(tiny: Tiny) -> None:
    family, name = tiny.family, type(tiny.family).__name__
    width, height = (96, 64) if name == "Idefics3Family" else (64, 32)  # never resized
    view = {"Idefics3Family": -1, "LlavaOnevisionFamily": 0}.get(name)  # shows the whole
    right, down = (12, -8) if view is not None else (5, -3)
    picture, grid = noise(width, height), family.grid(width, height)
    moved = np.pad(np.asarray(picture), ((0, -down), (right, 0), (0, 0)), mode="edge")[-down:, :width]
    expected = family.pixels(Image.fromarray(moved), grid)
    got = family.moved(family.pixels(picture, grid), grid, right, down)
    if view is not None:
        inner = np.s_[:, 7:-7, 7:-7]  # near the border, resizing mixes in what came in
        np.testing.assert_array_equal(got[view][inner], expected[view][inner])
        got, expected = np.delete(got, view, axis=0), np.delete(expected, view, axis=0)
    np.testing.assert_array_equal(got, expected)


@every_family
@given(width=st.integers(1, 300), height=st.integers(2, 300))
@settings(max_examples=8)
def test_shrinking_takes_tokens_and_the_model_still_reads_the_picture(
    tiny: Tiny, width: int, height: int
) -> None:
    family, model = tiny.family, tiny.model
    picture, tokens = noise(width, height), list[int]()
    most = family.num_shrinks(width, height)
    for shrink in range(most + 1):
        grid = family.grid(width, height, shrink=shrink)
        rows_RCHW = torch.from_numpy(family.pixels(picture, grid))
        ids_N = np.array(family.tokenizer(family.text(grid))["input_ids"])
        positions_ABL = torch.from_numpy(family.positions(ids_N, [grid]))[:, None]
        images = family.image_inputs(rows_RCHW, [grid])
        with torch.inference_mode():
            family.hidden(model, torch.from_numpy(ids_N)[None], positions_ABL, images=images)
        tokens.append(len(ids_N))
    assert tokens == sorted(set(tokens), reverse=True)
    assert family.grid(width, height, shrink=most + 1) == family.grid(width, height, shrink=most)


@every_qwen
def test_positions_of_a_sample_are_the_models_own(tiny: Tiny) -> None:
    for single in tiny.singles:
        own_A1N, _ = tiny.model.model.get_rope_index(
            single.own["input_ids"],
            single.own["mm_token_type_ids"],
            image_grid_thw=single.own.get("image_grid_thw"),
        )
        assert torch.equal(single.positions_AN, own_A1N[:, 0])
        types_N = tiny.family.token_inputs(single.ids_N.numpy(), 0)["mm_token_type_ids"]
        assert np.array_equal(types_N, single.own["mm_token_type_ids"][0].numpy())


@every_family
def test_features_in_the_stead_of_pictures_train_the_same_connector(tiny: Tiny) -> None:
    family, model = tiny.family, tiny.model
    pack = one_row(family, tiny.singles)
    assert pack.images is not None
    with torch.no_grad():
        features_RPD = family.tower(model, pack.images)
    grids = [grid for single in tiny.singles for grid in single.grids]
    assert len(features_RPD) == sum(family.rows(grid) for grid in grids)
    no_pixels = family.image_inputs(torch.zeros((0, *family.row_shape), dtype=torch.uint8), grids)

    shown_N = packed(family, model, pack)
    read_N = packed(family, model, replace(pack, images=no_pixels, features_RPD=features_RPD))
    torch.testing.assert_close(read_N, shown_N)
    shown, read = gradients(model, shown_N), gradients(model, read_N)
    weights = {id(w) for module in family.parts(model)["connector"] for w in module.parameters()}
    names = [name for name, weight in model.named_parameters() if id(weight) in weights]
    assert names and all(float(shown[name].abs().max()) > 0 for name in names)
    for name in names:
        torch.testing.assert_close(read[name], shown[name], atol=1e-4, rtol=1e-4)


@every_family
def test_parts_hold_every_weight_once(tiny: Tiny) -> None:
    family, model = tiny.family, tiny.model
    parts = family.parts(model)
    assert set(parts) == {"vision", "connector", "language"}
    held = [id(weight) for modules in parts.values() for module in modules for weight in module.parameters()]
    assert sorted(held) == sorted(id(weight) for weight in model.parameters())


@every_family
def test_chat_has_a_marker_for_every_picture_and_the_specials_are_the_tokenizers(tiny: Tiny) -> None:
    family = tiny.family
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "two?"}]}
    ]
    asked, told = family.chat(messages), family.chat(messages, generate=True)
    assert asked.count(family.marker) == 2 and told.startswith(asked) and len(told) > len(asked)
    assert {family.marker, "<|im_start|>", str(family.tokenizer.eos_token)} <= set(family.specials)
    assert family.pad != family.tokenizer.eos_token_id


def test_llava_features_without_their_images_are_refused() -> None:
    family, model = tiny_family("llava_onevision")
    with pytest.raises(ConfigError, match="without the sizes"):
        family.hidden(
            model, torch.zeros((1, 1)).long(), torch.zeros((1, 1, 1)).long(), features_RPD=torch.ones(1)
        )


def test_qwen_refuses_a_picture_that_its_processor_refuses() -> None:
    family, _ = tiny_family("qwen3_vl")
    assert family.grid(200, 1)
    with pytest.raises(SourceError, match="201 × 1"):
        family.grid(201, 1)


def test_qwen_counts_on_behind_the_larger_side_of_a_picture() -> None:
    family, _ = tiny_family("qwen2_5_vl")
    image = family.tokenizer.convert_tokens_to_ids(family.marker)
    ids_N = np.array([1, 2, *[image] * 6, 3], dtype=np.int32)
    assert family.positions(ids_N, [(4, 6)]).tolist() == [
        [0, 1, 2, 2, 2, 2, 2, 2, 5],
        [0, 1, 2, 2, 2, 3, 3, 3, 5],
        [0, 1, 2, 3, 4, 2, 3, 4, 5],
    ]


def test_qwen_with_more_grids_than_images_is_refused() -> None:
    family, _ = tiny_family("qwen2_5_vl")
    with pytest.raises(AssertionError, match="fewer images"):
        family.positions(np.array([1, 2], dtype=np.int32), [(4, 6)])


def test_family_of_an_unknown_processor_is_an_error() -> None:
    with pytest.raises(ConfigError, match="models with a object"):
        family_of(object())


@pytest.mark.parametrize("name", ["smolvlm", "llava_onevision", "qwen3_vl"])
def test_processor_without_videos_is_saved_under_the_originals_name(name: str, tmp_path: Any) -> None:
    family, _ = tiny_family(name)
    family.processor.save_pretrained(tmp_path)
    again = type(family.processor).from_pretrained(tmp_path, local_files_only=True)
    assert (
        f'"processor_class": "{type(family.processor).__name__}"'
        in (tmp_path / "processor_config.json").read_text()
    )
    assert type(again).__module__.startswith("transformers.models.")
    assert family_of(again).text(family.grid(70, 41)) == family.text(family.grid(70, 41))
