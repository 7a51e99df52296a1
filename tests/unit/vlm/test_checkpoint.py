"""Checkpoints: saved and loaded the same, contract asserted, generation batched without changing answers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from components.artifacts import Checkpoint, Dataset, digest_directory
from components.errors import ContractMismatch
from components.loader import read_samples
from components.vlm import (
    Prompt,
    assert_contract,
    contract,
    contract_hash,
    generate,
    load_model,
    load_processor,
    messages,
    save,
    train_tokenizer,
)


@pytest.fixture
def copy(tiny_checkpoint: Checkpoint, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint.path, tmp_path / "copy"))


@pytest.fixture(scope="module")
def prompts(tiny_dataset: Dataset) -> list[Prompt]:
    samples = read_samples(tiny_dataset, "test")
    asked = [sample.asked(0) for sample in samples]
    return [(each if index % 3 else each.blind()).prompt() for index, each in enumerate(asked)]


def test_save_loaded_again_gives_the_same_bytes(tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    model, processor = load_model(tiny_checkpoint.path), load_processor(tiny_checkpoint.path)
    generate(
        model, processor, [Prompt((), messages("Is it red?", image=False))], max_new_tokens=2, batch_size=1
    )
    assert save(model, processor, tmp_path / "again") == tiny_checkpoint.contract
    assert digest_directory(tmp_path / "again") == tiny_checkpoint.digest


def test_save_over_a_half_written_directory_leaves_only_the_new(
    tiny_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    model, processor = load_model(tiny_checkpoint.path), load_processor(tiny_checkpoint.path)
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "half.safetensors").write_text("half")
    (tmp_path / ".output.partial").mkdir()
    (tmp_path / ".output.partial" / "config.json").write_text("{")
    save(model, processor, tmp_path / "output")
    assert digest_directory(tmp_path / "output") == tiny_checkpoint.digest
    assert [path.name for path in tmp_path.iterdir()] == ["output"]


def test_contract_unchanged_directory_passes(tiny_checkpoint: Checkpoint) -> None:
    assert_contract(tiny_checkpoint.path, tiny_checkpoint.contract)
    load_model(tiny_checkpoint.path, expected_contract=tiny_checkpoint.contract)


def test_contract_changed_chat_template_names_both_values(copy: Path, tiny_checkpoint: Checkpoint) -> None:
    path = copy / "chat_template.jinja"
    path.write_text(path.read_text().replace("Assistant:", "Bot:"))
    with pytest.raises(ContractMismatch) as caught:
        load_model(copy, expected_contract=tiny_checkpoint.contract)
    message = str(caught.value)
    assert tiny_checkpoint.contract in message
    assert contract_hash(contract(load_processor(copy))) in message
    assert "chat_template" in message


@pytest.mark.parametrize(
    ("key", "value"), [("image_mean", [0.4, 0.5, 0.5]), ("do_image_splitting", True), ("resample", 2)]
)
def test_contract_changed_preprocessing_is_refused(
    copy: Path, tiny_checkpoint: Checkpoint, key: str, value: object
) -> None:
    path = copy / "processor_config.json"
    config = json.loads(path.read_text())
    config["image_processor"][key] = value
    path.write_text(json.dumps(config))
    with pytest.raises(ContractMismatch):
        assert_contract(copy, tiny_checkpoint.contract)


def test_contract_padding_state_of_a_call_does_not_count(tiny_checkpoint: Checkpoint) -> None:
    processor = load_processor(tiny_checkpoint.path)
    processor.tokenizer(["a", "a longer text"], padding=True, truncation=True, max_length=8)
    assert contract_hash(contract(processor)) == tiny_checkpoint.contract


def test_tokenizer_any_order_of_texts_gives_the_same(tiny_checkpoint: Checkpoint) -> None:
    texts = [f"What is {number} in the {colour} box?" for number in range(40) for colour in ("red", "blue")]
    forward, backward = train_tokenizer(texts, 400), train_tokenizer(reversed(texts), 400)
    assert forward.backend_tokenizer.to_str() == backward.backend_tokenizer.to_str()
    assert len(forward) <= 400


def test_tokenizer_padding_is_not_the_end_and_digits_stand_alone(tiny_checkpoint: Checkpoint) -> None:
    tokenizer = load_processor(tiny_checkpoint.path).tokenizer
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert tokenizer.convert_ids_to_tokens(tokenizer("123")["input_ids"]) == ["1", "2", "3"]
    assert tokenizer.decode(tokenizer("any tëxt ☃ 42")["input_ids"]) == "any tëxt ☃ 42"


def test_template_plain_string_content_equals_text_parts(tiny_checkpoint: Checkpoint) -> None:
    processor = load_processor(tiny_checkpoint.path)
    parts = processor.apply_chat_template(messages("Is it red?", image=False), add_generation_prompt=True)
    plain = [{"role": "user", "content": "Is it red?"}]
    assert processor.tokenizer.apply_chat_template(plain, add_generation_prompt=True, tokenize=False) == parts


def test_generate_batched_answers_as_one_by_one(tiny_checkpoint: Checkpoint, prompts: list[Prompt]) -> None:
    model, processor = load_model(tiny_checkpoint.path), load_processor(tiny_checkpoint.path)
    batched = generate(model, processor, prompts, max_new_tokens=6, batch_size=5)
    single = [generate(model, processor, [one], max_new_tokens=6, batch_size=1)[0] for one in prompts]
    assert batched == single


def test_generate_sampling_same_seed_gives_same_answers(
    tiny_checkpoint: Checkpoint, prompts: list[Prompt]
) -> None:
    model, processor = load_model(tiny_checkpoint.path), load_processor(tiny_checkpoint.path)
    first, again, other = (
        generate(model, processor, prompts, max_new_tokens=6, batch_size=8, temperature=1.0, seed=seed)
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_generate_model_that_ends_says_so(tiny_checkpoint: Checkpoint, prompts: list[Prompt]) -> None:
    model, processor = load_model(tiny_checkpoint.path), load_processor(tiny_checkpoint.path)
    end = processor.tokenizer.eos_token_id
    model.generation_config.suppress_tokens = [token for token in range(model.vocab_size) if token != end]
    answers = generate(model, processor, prompts[:3], max_new_tokens=6, batch_size=3)
    assert all(answer.ended and answer.token_ids == (end,) and answer.text == "" for answer in answers)
    model.generation_config.suppress_tokens = [end]
    answers = generate(model, processor, prompts[:3], max_new_tokens=6, batch_size=3)
    assert not any(answer.ended for answer in answers)
    assert all(len(answer.token_ids) == 6 for answer in answers)
    assert torch.is_grad_enabled()
