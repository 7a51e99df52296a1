"""The align stage: the prompt generation sees, preferences learnt, a crash survived."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import TrainerControl

from components.align import align
from components.align.collation import PairCollator, margins, preference_dataset
from components.align.pairs import Pair, split_pairs, write_pairs
from components.align.training import preference_accuracy
from components.artifacts import Checkpoint, Dataset, Preferences, digest_directory
from components.config import AlignConfig, Execution
from components.errors import GateFailed
from components.loader import SLOT, Asked, Sample, Turn
from components.trainers import Watch
from components.vlm import load_model, load_processor, messages, prompt_inputs


def _png(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(file, "PNG")
    return file.getvalue()


PAIRS = [
    Pair(
        key=f"key-{index}",
        turn=0,
        category="vqa",
        question="What color is the shape?",
        messages=messages("What color is the shape?"),
        chosen=("red", "blue")[index % 2],
        rejected=("green", "no", "a yellow rectangle")[index % 3],
        images=(_png(("red", "blue")[index % 2]),),
    )
    for index in range(20)
]
CHAT = Sample(
    key="chat",
    category="vqa",
    group="",
    split="train",
    images=(_png("red"), _png("green"), _png("blue")),
    turns=(Turn(f"Is {SLOT} red?", "yes"), Turn(f"And {SLOT} or {SLOT}?", "no")),
    chat=True,
)


def _about(asked: Asked) -> Pair:
    return PAIRS[0].model_copy(
        update={"key": asked.key, "messages": asked.messages, "images": asked.images, "rejected": "yes"}
    )


@pytest.fixture
def preferences(tmp_path: Path, tiny_dataset: Dataset) -> Preferences:
    """Twenty pairs on twenty images."""
    directory = tmp_path / "pairs"
    directory.mkdir()
    write_pairs(PAIRS, directory)
    return Preferences(
        uri=str(directory),
        digest=digest_directory(directory),
        record=tiny_dataset.record,
        num_pairs=len(PAIRS),
    )


def _config(workspace: Path, **fields: Any) -> AlignConfig:
    values = {
        "steps": 8,
        "batch_size": 4,
        "learning_rate": 1e-2,
        "log_every": 1,
        "execution": Execution(workspace=workspace, threads=1),
    }
    return AlignConfig.model_validate(values | fields)


def test_collator_prompt_is_what_generation_sees_and_answers_end_with_the_end_token(
    tiny_checkpoint: Checkpoint,
) -> None:
    processor = load_processor(tiny_checkpoint.path)
    rows = preference_dataset(PAIRS[:3])
    batch = PairCollator(processor)([rows[index] for index in range(3)])
    for row in range(6):
        pair = PAIRS[row % 3]
        image = Image.open(io.BytesIO(pair.images[0]))
        chat = processor.apply_chat_template(messages(pair.question), add_generation_prompt=True)
        prompt = processor(text=[chat], images=[[image]], return_tensors="pt")
        ids, mask = batch["input_ids"][row], batch["completion_mask"][row].bool()
        length = prompt["input_ids"].shape[1]
        assert torch.equal(ids[:length], prompt["input_ids"][0])
        assert int(mask.nonzero()[0]) == length
        torch.testing.assert_close(batch["pixel_values"][row], prompt["pixel_values"][0])
        answer = ids[mask].tolist()
        assert answer[-1] == processor.tokenizer.eos_token_id
        assert processor.tokenizer.decode(answer[:-1]).strip() == (pair.chosen if row < 3 else pair.rejected)
        assert bool(batch["attention_mask"][row][mask].all())


def test_collator_pictures_of_a_chat_stand_in_their_places(tiny_checkpoint: Checkpoint) -> None:
    processor = load_processor(tiny_checkpoint.path)
    asked = [CHAT.asked(0), CHAT.asked(1)]
    rows = preference_dataset([_about(each) for each in asked])
    batch = PairCollator(processor)([rows[0], rows[1]])
    for row in range(4):
        prompt = prompt_inputs(processor, [asked[row % 2].prompt()])
        ids, mask = batch["input_ids"][row], batch["completion_mask"][row].bool()
        length = prompt["input_ids"].shape[1]
        assert torch.equal(ids[:length], prompt["input_ids"][0])
        shown = len(asked[row % 2].images)
        torch.testing.assert_close(batch["pixel_values"][row][:shown], prompt["pixel_values"][0])
        assert not batch["pixel_attention_mask"][row][shown:].any()
        answer = processor.tokenizer.decode(ids[mask].tolist()).strip()
        assert answer == ("red" if row < 2 else "yes") + processor.tokenizer.eos_token


def test_margins_equal_pairs_are_zero_and_batching_changes_nothing(tiny_checkpoint: Checkpoint) -> None:
    model, processor = load_model(tiny_checkpoint.path), load_processor(tiny_checkpoint.path)
    same = [pair.model_copy(update={"rejected": pair.chosen}) for pair in PAIRS[:3]]
    torch.testing.assert_close(margins(model, processor, same, batch_size=2), torch.zeros(3))
    pairs = [*PAIRS[:4], _about(CHAT.asked(1)), _about(CHAT.asked(0))]
    one_by_one = margins(model, processor, pairs, batch_size=1)
    torch.testing.assert_close(
        one_by_one, margins(model, processor, pairs, batch_size=6), atol=1e-4, rtol=1e-4
    )


def test_align_learns_the_preference_and_merges_into_the_language_model_only(
    tmp_path: Path, tiny_checkpoint: Checkpoint, preferences: Preferences
) -> None:
    aligned = align(config=_config(tmp_path), checkpoint=tiny_checkpoint, preferences=preferences)

    assert aligned.contract == tiny_checkpoint.contract
    record = aligned.load_record()
    assert [gate.name for gate in record.gates] == ["finite_loss", "adapters_merged", "preference_accuracy"]
    before, after = (load_model(item.path).state_dict() for item in (tiny_checkpoint, aligned))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all("text_model.layers" in name and "_proj" in name for name in changed)


def test_align_killed_half_way_continues_to_the_same_bytes(
    tmp_path: Path,
    tiny_checkpoint: Checkpoint,
    preferences: Preferences,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inputs = {"checkpoint": tiny_checkpoint, "preferences": preferences}
    whole = align(config=_config(tmp_path / "whole"), **inputs)
    config = _config(tmp_path / "killed", checkpoint_every_s=1e-9)
    end_step = Watch.on_step_end

    def crash(self: Watch, args: Any, state: Any, control: TrainerControl, **rest: Any) -> None:
        if state.global_step == 6:
            raise KeyboardInterrupt
        end_step(self, args, state, control, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(Watch, "on_step_end", crash)
        with pytest.raises(KeyboardInterrupt):
            align(config=config, **inputs)
    assert align(config=config, **inputs).digest == whole.digest


def test_align_held_out_pairs_the_other_way_round_fails_its_gate(
    tmp_path: Path, tiny_checkpoint: Checkpoint, preferences: Preferences
) -> None:
    config = _config(tmp_path)
    training, held_out = split_pairs(PAIRS, held_out_share=config.held_out_share, seed=config.seed)
    turned = [pair.model_copy(update={"chosen": pair.rejected, "rejected": pair.chosen}) for pair in held_out]
    write_pairs([*training, *turned], preferences.path)
    with pytest.raises(GateFailed, match="preference_accuracy"):
        align(config=config, checkpoint=tiny_checkpoint, preferences=preferences)


@pytest.mark.parametrize(
    ("after", "passed"),
    [
        ([1.0] * 10 + [0.5] * 10, True),  # all told apart
        ([9.0] * 10 + [-1.0] * 10, True),  # the same ones, by more
        ([-0.1, *[2.0] * 9, *[-1.0] * 10], True),  # one lost, which chance explains
        ([1.0] * 10 + [-2.0] * 10, False),  # a narrower margin
        ([-0.1] * 8 + [50.0] * 2 + [-1.0] * 10, False),  # eight lost and none won
        ([1.0] * 19 + [float("nan")], False),
    ],
)
def test_preference_accuracy_wants_wider_margins_and_no_loss_beyond_chance(
    after: list[float], passed: bool
) -> None:
    before = torch.tensor([1.0] * 10 + [-1.0] * 10)
    assert preference_accuracy(before, torch.tensor(after)).passed is passed
