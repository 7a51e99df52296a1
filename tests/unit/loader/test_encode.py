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
    SLOT,
    Collator,
    Packing,
    Sample,
    Turn,
    encode,
    load_encoded,
    pack_once,
    read_samples,
    save_encoded,
)
from components.loader.pixels import CachedImages, StreamedImages
from components.loader.shards import ShardReader
from components.vlm import load_processor, messages, prompt_inputs
from components.vlm.families import Family, family_of

HOW = Packing(pack_tokens=512, pack_images=8, packs_per_step=1)


@pytest.fixture(scope="module")
def family(tiny_checkpoint: Checkpoint) -> Family:
    return family_of(load_processor(tiny_checkpoint.path))


def test_read_samples_split_and_categories_are_those_asked_for(tiny_dataset: Dataset) -> None:
    samples = read_samples(tiny_dataset, "test", categories={"vqa"})
    assert len(samples) == 4
    assert {sample.group for sample in samples} == {"official_test"}
    assert all(sample.images and sample.split == "test" for sample in samples)


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
    tiny_dataset: Dataset, family: Family, image: bool
) -> None:
    processor = family.processor
    samples = read_samples(tiny_dataset, "validation")
    encoded = encode(samples, family)
    turns = encoded.turns(image)
    number = 0
    for index, sample in enumerate(samples):
        trunk = turns.trunk(index)
        picture = Image.open(io.BytesIO(sample.images[0]))
        for turn in sample.turns:
            chat = processor.apply_chat_template(messages(turn.question, turn.answer, image=image))
            prompt = processor.apply_chat_template(
                messages(turn.question, image=image), add_generation_prompt=True
            )
            pictures = {"images": [[picture]]} if image else {}
            whole = processor(text=[chat], **pictures)["input_ids"][0]
            asked = processor(text=[prompt], **pictures)["input_ids"][0]
            span = slice(int(turns.start_T[number]), int(turns.start_T[number + 1]))
            ours = [*trunk, *turns.tokens_N[span]]
            learned = [False] * len(trunk) + turns.label_N[span].tolist()
            # The template ends every message with a newline, which stands behind the end token.
            assert whole[: len(ours)] == ours
            assert processor.tokenizer.decode(whole[len(ours) :]) == "\n"
            assert asked == whole[: len(asked)]
            assert learned == [False] * len(asked) + [True] * (len(ours) - len(asked))
            assert ours[-1] == processor.tokenizer.eos_token_id
            number += 1


def test_collator_pixels_equal_the_processor(tiny_dataset: Dataset, family: Family) -> None:
    sample = read_samples(tiny_dataset, "test")[0]
    larger = Image.open(io.BytesIO(sample.images[0])).resize((100, 80))
    png = io.BytesIO()
    larger.save(png, "PNG")
    for content in (sample.images[0], png.getvalue()):
        encoded = encode([dataclasses.replace(sample, images=(content,))], family)
        batch = Collator(encoded, family)(pack_once(encoded, [0], HOW))
        assert batch.images is not None
        with Image.open(io.BytesIO(content)) as picture:
            theirs = family.processor.image_processor([[picture]], return_tensors="pt")["pixel_values"]
        np.testing.assert_allclose(batch.images["pixel_values"].numpy(), theirs.numpy(), atol=1e-6)


def test_collator_labels_are_answers_and_end_tokens_only(tiny_dataset: Dataset, family: Family) -> None:
    samples = read_samples(tiny_dataset, "validation")
    encoded = encode(samples, family)
    batch = Collator(encoded, family)(pack_once(encoded, range(len(encoded)), HOW))
    labels = [label for row in batch.labels_BL.tolist() for label in row if label != IGNORED]
    answers = [turn.answer for sample in samples for turn in sample.turns]
    texts = family.tokenizer.decode(labels).split("<end_of_utterance>")
    assert sorted(text.strip() for text in texts if text) == sorted(answers)
    assert 0 <= batch.padding < 1
    assert int((batch.category_BL >= 0).sum()) == batch.num_tokens
    assert batch.num_samples == len(samples)


def _picture(colour: str, size: tuple[int, int] = (64, 64)) -> bytes:
    png = io.BytesIO()
    Image.new("RGB", size, colour).save(png, "PNG")
    return png.getvalue()


def _sample(**fields: object) -> Sample:
    plain = Sample("key", "chat", "", "train", (), (Turn("Is it red?", "yes"),))
    return dataclasses.replace(plain, **fields)  # type: ignore[arg-type]


def test_encode_interleaved_chat_learns_every_answer_and_equals_the_processor(family: Family) -> None:
    pictures = (_picture("red"), _picture("blue"))
    turns = (Turn(f"Is {SLOT} red?", "yes"), Turn(f"And {SLOT} there?", "no"), Turn("Thanks.", "bye"))
    sample = _sample(images=pictures, turns=turns, chat=True)
    encoded = encode([sample], family)
    chat = family.chat(sample.messages())
    opened = [[Image.open(io.BytesIO(picture)) for picture in pictures]]
    whole = family.processor(text=[chat], images=opened)["input_ids"][0]
    ours = encoded.with_image.tokens_N.tolist()
    assert whole[: len(ours)] == ours
    assert len(encoded.with_image.trunk(0)) == 0
    learned = np.array(ours)[encoded.with_image.label_N].tolist()
    assert family.tokenizer.decode(learned).split("<end_of_utterance>") == [" yes", " no", " bye", ""]
    batch = Collator(encoded, family)(pack_once(encoded, [0], HOW))
    assert batch.images is not None
    assert batch.images["pixel_values"].shape[1] == 2
    # It says where its pictures stand, so it is not shown without them.
    assert not encoded.plain_S[0]
    assert encoded.text_only.tokens_N.size == 0


@pytest.mark.parametrize("chat", [True, False])
def test_encode_every_answer_stands_behind_what_is_asked(family: Family, chat: bool) -> None:
    pictures = (_picture("red"), _picture("blue", (100, 80)))
    apart = (Turn(f"Is {SLOT} red?", "yes"), Turn(f"And {SLOT} there?", "no"), Turn("Thanks.", "bye"))
    together = (
        Turn(f"Is {SLOT} like {SLOT}?", "no"),
        Turn(f"{SLOT}{SLOT} two?", "yes"),
        Turn("In front?", "yes"),
    )
    sample = _sample(images=pictures, turns=apart if chat else together, chat=chat)
    encoded = encode([sample], family)
    batch = Collator(encoded, family)(pack_once(encoded, [0], HOW))
    assert batch.images is not None
    starts = encoded.with_image.start_T
    for number, turn in enumerate(sample.turns):
        unit = slice(starts[0], starts[1]) if chat else slice(starts[number], starts[number + 1])
        ours, learned = encoded.with_image.tokens_N[unit].tolist(), encoded.with_image.label_N[unit]
        begins = np.flatnonzero(learned & ~np.roll(learned, 1))[number if chat else 0]
        asked = prompt_inputs(family.processor, [sample.asked(number).prompt()])
        assert asked["input_ids"][0].tolist() == ours[:begins]
        answer = family.tokenizer.decode(ours[begins:]).split("<end_of_utterance>")[0]
        assert answer.strip() == turn.answer
        shown = asked["pixel_values"][0].numpy()
        assert len(shown) == (1 if chat and number == 0 else 2)
        np.testing.assert_allclose(shown, batch.images["pixel_values"][0, : len(shown)].numpy(), atol=1 / 255)


def test_encode_pictures_and_places_that_differ_in_number_name_the_sample(family: Family) -> None:
    sample = _sample(key="odd", images=(_picture("red"),), turns=(Turn(f"{SLOT} and {SLOT}?", "no"),))
    with pytest.raises(SourceError, match="sample odd"):
        encode([sample], family)


def test_encode_two_pictures_without_places_stand_before_every_question(family: Family) -> None:
    turns = (Turn("Are they alike?", "no"), Turn("How many?", "2"))
    encoded = encode([_sample(images=(_picture("red"), _picture("blue")), turns=turns)], family)
    image = family.tokenizer.convert_tokens_to_ids("<image>")
    assert int((encoded.with_image.trunk(0) == image).sum()) == 2 * family.processor.image_seq_len
    assert len(encoded.with_image.start_T) - 1 == 2


@pytest.fixture
def tiling(tiny_checkpoint: Checkpoint) -> Family:
    """Pictures are cut into up to 3 × 3 tiles of 64 pixels and shown once more as a whole."""
    processor = load_processor(tiny_checkpoint.path)
    processor.image_processor.do_image_splitting = True
    processor.image_processor.size = {"longest_edge": 192}
    return family_of(processor)


def test_encode_tiles_equal_the_processor_tokens_and_pixels(tiling: Family) -> None:
    picture = Image.effect_noise((180, 100), 90).convert("RGB")
    png = io.BytesIO()
    picture.save(png, "PNG")
    sample = _sample(images=(png.getvalue(),))
    encoded = encode([sample], tiling)
    assert encoded.grids(0) == [(2, 3)]
    theirs = tiling.processor(text=[tiling.chat(sample.messages())], images=[[picture]], return_tensors="pt")
    batch = Collator(encoded, tiling)(pack_once(encoded, [0], HOW))
    length = batch.num_tokens
    assert batch.input_ids_BL[0, :length].tolist() == theirs["input_ids"][0, :length].tolist()
    assert batch.images is not None
    # Kept as bytes: at most half a grey level off.
    np.testing.assert_allclose(batch.images["pixel_values"], theirs["pixel_values"], atol=1 / 255)


def test_encode_too_many_tokens_takes_fewer_tiles_and_never_cuts_an_image(tiling: Family) -> None:
    samples = [_sample(key=str(edge), images=(_picture("red", (edge, edge)),)) for edge in (64, 180)]
    image = tiling.tokenizer.convert_tokens_to_ids("<image>")
    for most in (400, 200, 100, 60):
        encoded = encode(samples, tiling, max_tokens=most)
        for sample in range(2):
            (grid,) = encoded.grids(sample)
            tokens = encoded.with_image.trunk(sample)
            assert len(tokens) + int(np.diff(encoded.with_image.start_T)[sample]) <= most
            assert int((tokens == image).sum()) == tiling.rows(grid) * tiling.processor.image_seq_len


def test_cached_and_decoded_pictures_of_a_shard_are_the_same(tiny_dataset: Dataset, family: Family) -> None:
    encoded = encode(read_samples(tiny_dataset, "train"), family)
    streamed = StreamedImages(
        ShardReader(tiny_dataset), family, encoded.shards, encoded.place_I3, encoded.grid_I2
    )
    for image in range(0, len(encoded.row_I) - 1, 7):
        np.testing.assert_array_equal(streamed(image), encoded.images(image))


def test_encode_special_token_in_text_is_refused(tiny_dataset: Dataset, family: Family) -> None:
    sample = read_samples(tiny_dataset, "test")[0]
    bad = dataclasses.replace(sample, turns=(Turn("What is <image> here?", "no"),))
    with pytest.raises(SourceError, match="<image>"):
        encode([bad], family)


def test_encoded_saved_and_loaded_is_the_same(tiny_dataset: Dataset, family: Family, tmp_path: Path) -> None:
    encoded = encode(read_samples(tiny_dataset, "test"), family)
    save_encoded(encoded, tmp_path / "cache")
    save_encoded(encoded, tmp_path / "cache")
    loaded = load_encoded(tmp_path / "cache")
    assert loaded.categories == encoded.categories
    assert loaded.keys == encoded.keys
    assert isinstance(loaded.images, CachedImages)
    assert isinstance(encoded.images, CachedImages)
    np.testing.assert_array_equal(loaded.images.pixels_RCHW, encoded.images.pixels_RCHW)
    for form in (True, False):
        for field in dataclasses.fields(loaded.turns(form)):
            np.testing.assert_array_equal(
                getattr(loaded.turns(form), field.name), getattr(encoded.turns(form), field.name)
            )
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
