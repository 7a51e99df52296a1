"""A teacher is held against the student: one that fits passes, and each difference is refused by its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_families import tiny_family

from components.artifacts import Checkpoint
from components.config import DistillConfig, ModelConfig
from components.distillation import (
    Teacher,
    assert_reads_alike,
    assert_writes_alike,
    compare_widths,
    load_teacher,
    pin_teacher,
)
from components.errors import ConfigError
from components.vlm import build_model, build_processor, load_model, load_processor, save, train_tokenizer
from components.vlm.families import Family, family_of

SIZES: dict[str, Any] = {
    "vocab_size": 400,
    "vision_layers": 1,
    "vision_width": 32,
    "vision_heads": 2,
    "text_layers": 1,
    "text_width": 64,
    "text_heads": 2,
    "text_kv_heads": 2,
    "text_mlp": 64,
}


@pytest.fixture
def student(tiny_checkpoint: Checkpoint) -> Family:
    return family_of(load_processor(tiny_checkpoint.path))


@pytest.fixture
def teacher(tiny_checkpoint: Checkpoint) -> Callable[..., Teacher]:
    """`teacher(**changes)`: of the student's tokenizer and sizes but for the changes."""

    def build(**changes: Any) -> Teacher:
        config = ModelConfig.model_validate(SIZES | changes)
        tokenizer = load_processor(tiny_checkpoint.path).tokenizer
        model = build_model(config, tokenizer)
        return Teacher(
            "other", "pretrain.distill.teacher", model, family_of(build_processor(tokenizer, config))
        )

    return build


def test_teacher_of_other_sizes_fits_and_its_widths_are_told(
    student: Family, teacher: Callable[..., Teacher], tiny_checkpoint: Checkpoint
) -> None:
    other = teacher(vision_width=48, vision_layers=2, text_width=96, text_heads=3, text_kv_heads=3)
    assert_reads_alike(other, student)
    assert_writes_alike(other, student)
    model = load_model(tiny_checkpoint.path)
    # The connector reads four patches side by side.
    assert compare_widths(other, model, student, ["vision", "connector"]) == {
        "vision": (32, 48),
        "connector": (64, 96),
    }
    assert compare_widths(other, model, student, []) == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 32}, r"the teacher reads \{'pixel_values': \(1, 1, 3, 32, 32\)\}, the student"),
        (
            {"longest_edge": 128},
            r"the teacher cuts a picture of .* into \(\d, \d\), the student into \(0, 0\)",
        ),
    ],
    ids=["tile", "tiling"],
)
def test_teacher_that_cuts_pictures_otherwise_is_refused(
    student: Family, teacher: Callable[..., Teacher], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        assert_reads_alike(teacher(**changes), student)
    assert "pretrain.distill.teacher: other" in str(error.value)


def test_teacher_that_normalizes_pictures_otherwise_is_refused(
    student: Family, teacher: Callable[..., Teacher]
) -> None:
    other = teacher()
    other.family.processor.image_processor.image_mean = [0.4, 0.5, 0.5]
    with pytest.raises(ConfigError, match="normalizes"):
        assert_reads_alike(other, student)


def test_teacher_of_another_family_is_refused(student: Family) -> None:
    family, model = tiny_family("qwen3_vl")
    with pytest.raises(ConfigError, match=r"the teacher (cuts|reads)"):
        assert_reads_alike(Teacher("qwen", "pretrain.distill.teacher", model, family), student)


def test_teacher_with_another_vocabulary_is_refused_by_name_of_a_token(
    student: Family, teacher: Callable[..., Teacher]
) -> None:
    other = teacher()
    tokenizer = train_tokenizer(["entirely other words stand here"] * 5, 320)
    family = family_of(build_processor(tokenizer, ModelConfig.model_validate(SIZES)))
    other = Teacher(other.name, other.where, other.model, family)
    own, theirs = len(student.tokenizer), len(tokenizer)
    with pytest.raises(ConfigError, match=rf"{theirs} tokens against {own}; '.+' is .+ there and .+ here"):
        assert_writes_alike(other, student)


def test_teacher_with_another_end_token_chat_or_image_tokens_is_refused(
    student: Family, teacher: Callable[..., Teacher]
) -> None:
    ending = teacher()
    ending.family.tokenizer.eos_token = "<|im_start|>"
    with pytest.raises(ConfigError, match=r"ends answers with '<\|im_start\|>', the student with"):
        assert_writes_alike(ending, student)
    with pytest.raises(ConfigError, match=r"the teacher writes a chat as '<\|im_start\|>user"):
        assert_writes_alike(teacher(chat="chatml"), student)
    with pytest.raises(ConfigError, match="is 4 image tokens to the teacher and 16 to the student"):
        assert_writes_alike(teacher(scale_factor=4), student)


def test_teacher_that_makes_other_vectors_of_a_picture_is_refused_for_that_term(
    student: Family, teacher: Callable[..., Teacher], tiny_checkpoint: Checkpoint
) -> None:
    model = load_model(tiny_checkpoint.path)
    with pytest.raises(
        ConfigError, match=r"teacher's vision makes \(1, 16\) vectors and the student's \(1, 64\)"
    ):
        compare_widths(teacher(patch_size=16), model, student, ["vision"])
    shuffled = teacher(scale_factor=4)
    assert compare_widths(shuffled, model, student, ["vision"]) == {"vision": (32, 32)}
    with pytest.raises(ConfigError, match="connector makes"):
        compare_widths(shuffled, model, student, ["connector"])


def test_load_teacher_is_frozen_and_pinned_by_content(tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    config = DistillConfig(teacher=str(tiny_checkpoint.path))
    pinned = pin_teacher(config, tmp_path, "sft.distill")
    assert pinned.digest == tiny_checkpoint.digest
    assert pin_teacher(pinned, tmp_path, "sft.distill") == pinned
    loaded = load_teacher(pinned, tmp_path, "sft.distill", torch.device("cpu"))
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    nowhere = DistillConfig(teacher=str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"there is no directory(.|\n)*sft\.distill\.teacher"):
        pin_teacher(nowhere, tmp_path, "sft.distill")


def test_teacher_saved_and_loaded_fits_itself(
    student: Family, teacher: Callable[..., Teacher], tmp_path: Path
) -> None:
    made = teacher(architecture="prefix")
    save(made.model, made.family.processor, tmp_path / "prefix")
    loaded = load_teacher(
        DistillConfig(teacher=str(tmp_path / "prefix")), tmp_path, "sft.distill", torch.device("cpu")
    )
    # A composed model reads pictures and chats as Idefics3 does, so it can teach one.
    assert_reads_alike(loaded, student)
    assert_writes_alike(loaded, student)
