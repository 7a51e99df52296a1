"""The teacher: loaded once, frozen, and held against the student before anything is learned from it.

Both read the same batch. So a teacher that would read its pictures or its tokens otherwise is refused by name
of what differs: it would still give features and logits, of something else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import nn
from transformers import PreTrainedModel

from components.config import DistillConfig
from components.distillation.terms import look, vectors
from components.errors import ConfigError
from components.vlm import assert_digest, load_model, load_processor, locate_source, source_digest
from components.vlm.families import Family, family_of

DistillConfigT = TypeVar("DistillConfigT", bound=DistillConfig)
PROBES: Final = ((96, 64), (500, 300), (300, 800))
"""Sizes of the pictures that both processors are tried on: within a tile, wide, and tall."""
CHAT: Final = (
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is shown?"}]},
    {"role": "assistant", "content": [{"type": "text", "text": "A red square."}]},
)


@dataclass(frozen=True)
class Teacher:
    """A frozen model and how it is fed."""

    name: str
    where: str
    """The config's key that names it, for errors."""
    model: PreTrainedModel
    family: Family

    @property
    def connector(self) -> nn.Module:
        """Features of the tower in, what the language model sees of an image out."""
        return self.family.parts(self.model)["connector"][0]

    def refuse(self, why: str, fix: str) -> ConfigError:
        """The error that this teacher cannot be learned from."""
        return ConfigError(why, where=f"{self.where}: {self.name}", fix=fix)


def pin_teacher(config: DistillConfigT, downloads: Path, where: str) -> DistillConfigT:
    """The config with the digest of its teacher's content, where the name does not fix that.

    Raises:
        ConfigError: the teacher is not there, or is not the one whose digest is given.
        SourceError: the hub does not answer.
    """
    if not config.teacher:
        return config
    found = source_digest(config.teacher, downloads, f"{where}.teacher")
    if config.digest:
        assert_digest(config.teacher, found, config.digest, f"{where}.digest")
    return config.model_copy(update={"digest": found})


def load_teacher(config: DistillConfig, downloads: Path, where: str, device: torch.device) -> Teacher:
    """The teacher's checkpoint, frozen and in evaluation mode.

    Args:
        where: The config's section that names it, for errors.

    Raises:
        ConfigError: it is not there, or no vision-language model that is known here.
        SourceError: it could not be fetched.
    """
    key = f"{where}.teacher"
    directory = locate_source(config.teacher, config.digest, downloads, key)
    family = family_of(load_processor(directory))
    model = load_model(directory)
    model.requires_grad_(False)
    model.to(device)  # type: ignore[arg-type]  # transformers types `to` as a bound method of Module
    return Teacher(config.teacher, key, model, family)


def assert_reads_alike(teacher: Teacher, student: Family) -> None:
    """
    Raises:
        ConfigError: the teacher's processor makes other inputs of a picture than the student's.
    """
    for width, height in PROBES:
        picture = _picture(width, height)
        mine, theirs = (family.grid(width, height) for family in (student, teacher.family))
        size = f"a picture of {width} × {height} pixels"
        fix = "take a teacher with the student's processor (tile side, longest edge, mean and std of pixels)"
        if mine != theirs:
            raise teacher.refuse(f"the teacher cuts {size} into {theirs}, the student into {mine}", fix)
        ours, others = (_inputs(family, picture) for family in (student, teacher.family))
        shapes = [{name: tuple(each.shape) for name, each in given.items()} for given in (ours, others)]
        if shapes[0] != shapes[1]:
            raise teacher.refuse(f"of {size} the teacher reads {shapes[1]}, the student {shapes[0]}", fix)
        if any(not torch.equal(ours[name], others[name]) for name in ours):
            raise teacher.refuse(
                f"of {size} the teacher reads other values than the student: it resizes or normalizes "
                "pictures otherwise",
                fix,
            )


def assert_writes_alike(teacher: Teacher, student: Family) -> None:
    """
    Raises:
        ConfigError: the teacher's tokens, chats or image tokens are not the student's; names both.
    """
    fix = "take a teacher with the student's tokenizer and chat, or learn its answers (distill.text)"
    mine, theirs = student.tokenizer.get_vocab(), teacher.family.tokenizer.get_vocab()
    if mine != theirs:
        token = min(set(mine.items()) ^ set(theirs.items()), key=lambda each: (each[1], each[0]))[0]
        raise teacher.refuse(
            f"the teacher's tokenizer is not the student's: {len(theirs):,} tokens against {len(mine):,}; "
            f"{token!r} is {theirs.get(token, 'none')} there and {mine.get(token, 'none')} here",
            fix,
        )
    ends = [family.tokenizer.eos_token for family in (student, teacher.family)]
    if ends[0] != ends[1]:
        raise teacher.refuse(f"the teacher ends answers with {ends[1]!r}, the student with {ends[0]!r}", fix)
    chats = [family.chat(CHAT) for family in (student, teacher.family)]
    if chats[0].strip() != chats[1].strip():
        raise teacher.refuse(f"the teacher writes a chat as {chats[1]!r}, the student as {chats[0]!r}", fix)
    for width, height in PROBES:
        texts = [family.text(family.grid(width, height)) for family in (student, teacher.family)]
        if texts[0] != texts[1]:
            counts = [text.count(student.marker) for text in texts]
            raise teacher.refuse(
                f"a picture of {width} × {height} pixels is {counts[1]} image tokens to the teacher and "
                f"{counts[0]} to the student, or stands between others",
                "learn its vision features (distill.vision) or its answers (distill.text)",
            )
    fed = [
        (family.axes, sorted(family.token_inputs(_ids(student), 0))) for family in (student, teacher.family)
    ]
    if fed[0] != fed[1]:
        raise teacher.refuse(f"the teacher's tokens come with {fed[1]}, the student's with {fed[0]}", fix)


def _ids(family: Family) -> np.ndarray:
    encoded = family.tokenizer.backend_tokenizer.encode(family.text(family.grid(*PROBES[0])))
    return np.array(encoded.ids, dtype=np.int32)


def _inputs(family: Family, picture: Image.Image) -> dict[str, torch.Tensor]:
    grid = family.grid(*picture.size)
    return family.image_inputs(torch.from_numpy(family.pixels(picture, grid)), [grid])


def _picture(width: int, height: int) -> Image.Image:
    """Every colour and some edges: what resizing and normalizing change."""
    rows, columns = np.mgrid[:height, :width]
    stripes = (rows // 7 + columns // 11) % 2 * 255
    return Image.fromarray(np.stack([rows % 256, columns % 256, stripes], axis=-1).astype(np.uint8))


def compare_widths(
    teacher: Teacher, model: PreTrainedModel, family: Family, terms: Sequence[str]
) -> dict[str, tuple[int, int]]:
    """Of each term of `FEATURE_TERMS`, the width of the student's vectors and of the teacher's.

    Raises:
        ConfigError: the teacher makes another number of vectors of a picture.
    """
    if not terms:
        return {}
    inputs = {name: each.to(model.device) for name, each in _inputs(family, _picture(*PROBES[0])).items()}
    with torch.no_grad():
        own, others = look(model, family, inputs), look(teacher.model, teacher.family, inputs)
    widths = {}
    for term in terms:
        student, taught = vectors(own, term), vectors(others, term)
        if student.shape[:-1] != taught.shape[:-1]:
            raise teacher.refuse(
                f"of one picture the teacher's {term} makes {tuple(taught.shape[:-1])} vectors and the "
                f"student's {tuple(student.shape[:-1])}",
                f"take a teacher with the student's patches and image tokens, or no distill.{term}",
            )
        widths[term] = (student.shape[-1], taught.shape[-1])
    return widths
