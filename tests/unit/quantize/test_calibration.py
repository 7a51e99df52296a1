"""Which samples calibration draws, and what it writes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from components.artifacts import Checkpoint, Dataset
from components.errors import ConfigError
from components.loader import SLOT, Sample, Turn, read_samples
from components.quantize.calibration import draw, write
from components.vlm import load_model, load_processor


def _samples(sizes: dict[str, int]) -> list[Sample]:
    turns = (Turn("q0", "a0"), Turn("q1", "a1"))
    return [
        Sample(key=f"{name}-{i}", category=name, group="", split="train", images=(), turns=turns)
        for name, size in sizes.items()
        for i in range(size)
    ]


@given(
    sizes=st.dictionaries(st.sampled_from("abcd"), st.integers(0, 30), min_size=1),
    weights=st.fixed_dictionaries(dict.fromkeys("abcd", st.floats(0.05, 1))),
    count=st.integers(1, 60),
    seed=st.integers(0, 3),
)
def test_draw_any_mixture_gives_distinct_samples_near_the_weights(
    sizes: dict[str, int], weights: dict[str, float], count: int, seed: int
) -> None:
    samples = _samples(sizes)
    if not samples:
        with pytest.raises(ConfigError, match="run ablate"):
            draw(samples, weights, count, seed)
        return
    chosen = draw(samples, weights, count, seed)
    assert len({each.sample.key for each in chosen}) == len(chosen) == min(count, len(samples))
    assert chosen == draw(list(reversed(samples)), weights, count, seed)
    present = [name for name, size in sizes.items() if size]
    total = sum(weights[name] for name in present)
    found = Counter(each.sample.category for each in chosen)
    if all(sizes[name] >= count for name in present):
        for name in present:
            assert abs(found[name] - count * weights[name] / total) < len(present)


def test_draw_category_without_weight_is_left_out() -> None:
    chosen = draw(_samples({"a": 5, "b": 5}), {"a": 1.0, "b": 0.0}, 8, seed=0)
    assert {each.sample.category for each in chosen} == {"a"}


def test_write_chats_and_several_pictures_gives_whole_texts_and_all_tiles(
    tiny_checkpoint: Checkpoint, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    processor = load_processor(tiny_checkpoint.path)
    one, two = (sample.images[0] for sample in read_samples(tiny_dataset, "train")[:2])
    later = (Turn("Hello?", "hi"), Turn(f"Is {SLOT} like {SLOT}?", "no"))
    samples = [
        Sample("chat", "vqa", "", "train", (one, two), later, chat=True),
        Sample("slots", "vqa", "", "train", (two, one), later[1:]),
        Sample("plain", "vqa", "", "train", (one,), later[:1]),
    ]
    for seed in range(5):
        examples = draw(samples, {"vqa": 1.0}, 3, seed=seed)
        assert [each.turn for each in examples if each.sample.chat] == [1]
    write(examples, processor, tmp_path / "calibration.safetensors")
    tensors = load_file(tmp_path / "calibration.safetensors")
    model, seen = load_model(tiny_checkpoint.path), {}
    for batch in range(3):
        inputs = {name[7:]: each for name, each in tensors.items() if name.startswith(f"{batch:06d}.")}
        assert model(**inputs).logits.shape[:2] == inputs["input_ids"].shape
        text = processor.tokenizer.decode(inputs["input_ids"][0])
        shown = int((inputs["input_ids"] == processor.image_token_id).sum()) // processor.image_seq_len
        assert inputs["pixel_values"].shape[:2] == (1, shown)
        seen[text.count("Assistant:"), shown] = text
    assert set(seen) == {(1, 1), (1, 2), (2, 2)}
    assert "hi" in seen[2, 2] and "no" in seen[2, 2]


def test_write_real_samples_gives_inputs_the_model_takes(
    tiny_checkpoint: Checkpoint, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    processor = load_processor(tiny_checkpoint.path)
    examples = draw(read_samples(tiny_dataset, "train"), {"vqa": 1.0, "digits": 1.0}, 4, seed=0)
    tokens = write(examples, processor, tmp_path / "calibration.safetensors")
    tensors = load_file(tmp_path / "calibration.safetensors")
    inputs = {name.removeprefix("000000."): t for name, t in tensors.items() if name.startswith("000000.")}
    ids = [row for name, t in tensors.items() if name.endswith("input_ids") for row in t]
    texts = [processor.tokenizer.decode(row) for row in ids]
    asked = [each.sample.turns[each.turn].question for each in examples]
    assert all(any(question in text for text in texts) for question in asked)
    assert tokens == sum(map(len, ids))
    assert all(t.all() for name, t in tensors.items() if name.endswith("attention_mask"))  # no padding
    assert load_model(tiny_checkpoint.path)(**inputs).logits.shape[:2] == inputs["input_ids"].shape
