"""Samples and tokens: what training reads is what the processor gives at evaluation and serving."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.artifacts import Checkpoint, Dataset
from components.errors import SourceError
from components.loader import (
    IGNORED,
    Collator,
    encode,
    load_encoded,
    pack_once,
    read_samples,
    save_encoded,
)
from components.loader.samples import Turn
from components.vlm import load_processor, messages


def test_read_samples_split_and_categories_are_those_asked_for(tiny_dataset: Dataset) -> None:
    samples = read_samples(tiny_dataset, "test", categories={"vqa"})
    assert len(samples) == 4
    assert {sample.group for sample in samples} == {"official_test"}
    assert all(sample.image is not None and sample.split == "test" for sample in samples)


def test_read_samples_unknown_split_names_the_dataset(tiny_dataset: Dataset) -> None:
    with pytest.raises(SourceError, match="tiny"):
        read_samples(tiny_dataset, "dev")


def test_read_samples_broken_shard_names_the_shard(tiny_dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "train-00000.tar").write_bytes(b"not a tar file" * 100)
    broken = tiny_dataset.model_copy(update={"uri": str(tmp_path)})
    with pytest.raises(SourceError, match="train-00000"):
        read_samples(broken, "train")


@pytest.mark.parametrize("image", [True, False])
def test_encode_every_turn_equals_the_processor_chat_template(
    tiny_dataset: Dataset, tiny_checkpoint: Checkpoint, image: bool
) -> None:
    processor = load_processor(tiny_checkpoint.path)
    samples = read_samples(tiny_dataset, "validation")
    encoded = encode(samples, processor)
    turns = encoded.turns(image)
    number = 0
    for sample in samples:
        picture = Image.open(io.BytesIO(sample.image or b""))
        for turn in sample.turns:
            chat = processor.apply_chat_template(messages(turn.question, turn.answer, image=image))
            prompt = processor.apply_chat_template(
                messages(turn.question, image=image), add_generation_prompt=True
            )
            pictures = {"images": [[picture]]} if image else {}
            whole = processor(text=[chat], **pictures)["input_ids"][0]
            asked = processor(text=[prompt], **pictures)["input_ids"][0]
            ours = [*turns.prefix, *turns.tokens_N[turns.start_T[number] : turns.start_T[number + 1]]]
            # The template ends every message with a newline, which stands behind the end token.
            assert whole[: len(ours)] == ours
            assert processor.tokenizer.decode(whole[len(ours) :]) == "\n"
            assert len(asked) == len(turns.prefix) + turns.answer_T[number]
            assert asked == whole[: len(asked)]
            assert ours[-1] == processor.tokenizer.eos_token_id
            number += 1


def test_collator_pixels_equal_the_processor(tiny_dataset: Dataset, tiny_checkpoint: Checkpoint) -> None:
    processor = load_processor(tiny_checkpoint.path)
    sample = read_samples(tiny_dataset, "test")[0]
    larger = Image.open(io.BytesIO(sample.image or b"")).resize((100, 80))
    png = io.BytesIO()
    larger.save(png, "PNG")
    for content in (sample.image, png.getvalue()):
        encoded = encode([dataclasses.replace(sample, image=content)], processor)
        packs = pack_once(encoded, [0], pack_tokens=256, pack_images=1)
        ours = Collator(encoded, processor)(packs).inputs["pixel_values"]
        with Image.open(io.BytesIO(content or b"")) as picture:
            theirs = processor.image_processor([[picture]], return_tensors="pt")["pixel_values"]
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-6)


def test_collator_labels_are_answers_and_end_tokens_only(
    tiny_dataset: Dataset, tiny_checkpoint: Checkpoint
) -> None:
    processor = load_processor(tiny_checkpoint.path)
    samples = read_samples(tiny_dataset, "validation")
    encoded = encode(samples, processor)
    packs = pack_once(encoded, range(len(encoded)), pack_tokens=512, pack_images=8)
    batch = Collator(encoded, processor)(packs)
    labels = [label for row in batch.inputs["labels"].tolist() for label in row if label != IGNORED]
    answers = [turn.answer for sample in samples for turn in sample.turns]
    texts = processor.tokenizer.decode(labels).split("<end_of_utterance>")
    assert sorted(text.strip() for text in texts if text) == sorted(answers)
    assert 0 <= batch.padding < 1
    assert int((batch.category_BL >= 0).sum()) == batch.num_tokens


def test_encode_special_token_in_text_is_refused(tiny_dataset: Dataset, tiny_checkpoint: Checkpoint) -> None:
    sample = read_samples(tiny_dataset, "test")[0]
    bad = dataclasses.replace(sample, turns=(Turn("What is <image> here?", "no"),))
    with pytest.raises(SourceError, match="<image>"):
        encode([bad], load_processor(tiny_checkpoint.path))


def test_encoded_saved_and_loaded_is_the_same(
    tiny_dataset: Dataset, tiny_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    encoded = encode(read_samples(tiny_dataset, "test"), load_processor(tiny_checkpoint.path))
    save_encoded(encoded, tmp_path / "cache")
    save_encoded(encoded, tmp_path / "cache")
    loaded = load_encoded(tmp_path / "cache")
    assert loaded.categories == encoded.categories
    np.testing.assert_array_equal(loaded.images_SCHW, encoded.images_SCHW)
    for form in (True, False):
        for field in dataclasses.fields(loaded.turns(form)):
            np.testing.assert_array_equal(
                getattr(loaded.turns(form), field.name), getattr(encoded.turns(form), field.name)
            )
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
