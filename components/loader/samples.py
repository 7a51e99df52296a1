"""Samples: what lies in a dataset's shards, read in shard order.

A sample has pictures (or none) and turns. Turns are questions about the same pictures that do not see each
other, or, in a chat, follow one another. Pictures stand before the question (in a chat: the first one) unless
the questions say with `SLOT` where each stands.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from PIL import Image

from components.artifacts import Dataset
from components.errors import SourceError
from components.loader.shards import iter_shards
from components.vlm import Prompt

SLOT: Final = "\N{OBJECT REPLACEMENT CHARACTER}"
"""Stands in a question where a picture belongs."""
FEATURES: Final = b"\x93NUMPY"
"""What begins the features that `delivery = "embeddings"` puts in a picture's place."""


@dataclass(frozen=True)
class Turn:
    """A question about the sample's pictures, and its answer."""

    question: str
    answer: str


@dataclass(frozen=True)
class Place:
    """Where a picture lies: a range of bytes of a shard."""

    shard: str
    offset: int
    size: int


@dataclass(frozen=True)
class Asked:
    """A turn as a model is asked it."""

    key: str
    """Of the sample."""
    messages: list[dict[str, Any]]
    """The chat up to the answer, as `apply_chat_template` takes it."""
    images: tuple[bytes, ...]
    """Those that the chat shows, in the order of their places."""

    def prompt(self) -> Prompt:
        """With the pictures opened.

        Raises:
            SourceError: the sample has features of a tower in their place.
        """
        return Prompt(tuple(map(self._open, self.images)), self.messages)

    def blind(self) -> Asked:
        """The same without its pictures."""
        texts = [
            "".join(part["text"] for part in message["content"] if part["type"] == "text")
            for message in self.messages
        ]
        messages = [
            {"role": message["role"], "content": [{"type": "text", "text": text}]}
            for message, text in zip(self.messages, texts, strict=True)
        ]
        return Asked(self.key, messages, ())

    def _open(self, image: bytes) -> Image.Image:
        if image.startswith(FEATURES):
            raise SourceError(
                "the dataset holds features of a tower, and no pictures to ask about",
                where=f"sample {self.key}",
                fix="take a dataset that delivers pictures (curate.delivery)",
            )
        return Image.open(io.BytesIO(image)).convert("RGB")


@dataclass(frozen=True)
class Sample:
    """Pictures with one or more turns."""

    key: str
    category: str
    group: str
    """Name of the held-out group in the test split, else empty."""
    split: str
    images: tuple[bytes, ...]
    """Encoded pictures as they lie in the shard (PNG, JPEG, WebP; in raw datasets whatever the source had;
    features of a tower where those were delivered)."""
    turns: tuple[Turn, ...]
    chat: bool = False
    """The turns follow one another."""
    places: tuple[Place, ...] = ()
    """Of the pictures, in their order."""

    def messages(self, turn: int = 0) -> list[dict[str, Any]]:
        """The whole chat, or that turn of independent ones, as `apply_chat_template` takes it.

        Raises:
            SourceError: the texts have places for more pictures, or for fewer, than there are.
        """
        turns = self.turns if self.chat else self.turns[turn : turn + 1]
        slots = sum(each.question.count(SLOT) for each in turns)
        if slots not in (0, len(self.images)):
            raise SourceError(
                f"a text has {slots} places for {len(self.images)} pictures",
                where=f"sample {self.key}",
                fix="give every picture its place in the text, or none of them",
            )
        chat: list[dict[str, Any]] = []
        for number, each in enumerate(turns):
            first = [{"type": "image"}] * len(self.images) if not slots and number == 0 else []
            chat.append({"role": "user", "content": [*first, *_content(each.question)]})
            chat.append({"role": "assistant", "content": [{"type": "text", "text": each.answer}]})
        return chat

    def asked(self, turn: int) -> Asked:
        """The chat up to and without the answer of that turn, and the pictures shown until there: of a chat
        behind all earlier turns with their true answers, of independent turns alone.

        Raises:
            SourceError: as `messages`.
        """
        messages = self.messages(turn)[: 2 * turn + 1 if self.chat else 1]
        shown = sum(part["type"] == "image" for message in messages for part in message["content"])
        return Asked(self.key, messages, self.images[:shown])


def _content(question: str) -> list[dict[str, str]]:
    parts: list[dict[str, str]] = []
    for number, text in enumerate(question.split(SLOT)):
        parts += [{"type": "image"}] if number else []
        parts += [{"type": "text", "text": text}] if text or SLOT not in question else []
    return parts


def read_samples(dataset: Dataset, split: str, *, categories: Collection[str] | None = None) -> list[Sample]:
    """Samples of a split in shard order, of all categories or of those named.

    Raises:
        SourceError: the split has no shard, or a shard cannot be read; names the shard.
    """
    samples = iter_samples(dataset, split)
    return [sample for sample in samples if categories is None or sample.category in categories]


def iter_samples(dataset: Dataset, split: str, *, may_lack: bool = False) -> Iterator[Sample]:
    """The same, one after another: of any number of shards one sample is in memory.

    Raises:
        SourceError: the split has no shard (unless it `may_lack` them), or a shard cannot be read; names the
            shard.
    """
    for name, file in iter_shards(dataset, split, may_lack=may_lack):
        yield from _read_shard(name, file)


def _read_shard(name: str, file: BinaryIO) -> Iterator[Sample]:
    try:
        with tarfile.open(fileobj=file, mode="r|") as tar:  # a stream: the file may come from afar
            pictures: list[tuple[str, bytes, Place]] = []
            for member in tar:
                content = tar.extractfile(member)
                assert content is not None, f"{member.name} in {name} is not a file"
                stem, _, suffix = member.name.partition(".")
                if suffix == "json":
                    own = [each for each in pictures if each[0] == stem]
                    yield _sample(json.loads(content.read()), own)
                    pictures = []
                else:
                    place = Place(Path(name).name, member.offset_data, member.size)
                    pictures.append((stem, content.read(), place))
    except (tarfile.TarError, json.JSONDecodeError, KeyError) as error:
        raise SourceError(
            f"a shard cannot be read: {error!r}", where=name, fix="fetch the dataset again (`dvc checkout`)"
        ) from error


def _sample(fields: dict[str, object], pictures: list[tuple[str, bytes, Place]]) -> Sample:
    turns = fields["turns"]
    assert isinstance(turns, list)
    return Sample(
        key=str(fields["key"]),
        category=str(fields["category"]),
        group=str(fields["group"]),
        split=str(fields["split"]),
        images=tuple(content for _, content, _ in pictures),
        turns=tuple(Turn(str(turn["question"]), str(turn["answer"])) for turn in turns),
        chat=bool(fields.get("chat", False)),
        places=tuple(place for *_, place in pictures),
    )
