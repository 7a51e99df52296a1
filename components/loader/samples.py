"""Samples: what lies in a dataset's shards, read in shard order.

A sample has pictures (or none) and turns. Turns are questions about the same pictures that do not see each
other, or, in a chat, follow one another. Pictures stand before the question (in a chat: the first one) unless
the questions say with `SLOT` where each stands.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from components.artifacts import Dataset
from components.errors import SourceError
from components.loader.shards import iter_shards

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

    @property
    def image(self) -> bytes | None:
        """The first picture."""
        return self.images[0] if self.images else None

    def messages(self, turn: int | None = None, *, image: bool = True) -> list[dict[str, Any]]:
        """The whole chat, or one turn of independent ones, as `apply_chat_template` takes it.

        Args:
            turn: Number of the turn; None in a chat.
            image: Show the pictures; without them the text stands alone.
        """
        asked = self.turns if turn is None else self.turns[turn : turn + 1]
        slots = any(SLOT in each.question for each in asked)
        chat: list[dict[str, Any]] = []
        for number, each in enumerate(asked):
            first = [{"type": "image"}] * len(self.images) if image and not slots and number == 0 else []
            chat.append({"role": "user", "content": [*first, *_content(each.question)]})
            chat.append({"role": "assistant", "content": [{"type": "text", "text": each.answer}]})
        return chat


def _content(question: str) -> list[dict[str, str]]:
    parts: list[dict[str, str]] = []
    for number, text in enumerate(question.split(SLOT)):
        parts += [{"type": "image"}] if number else []
        parts += [{"type": "text", "text": text}] if text else []
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
