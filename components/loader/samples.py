"""Samples: what lies in a dataset's shards, read in shard order."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from components.artifacts import Dataset
from components.errors import SourceError
from components.loader.shards import iter_shards


@dataclass(frozen=True)
class Turn:
    """A question about the sample's image, and its answer. Turns do not see each other."""

    question: str
    answer: str


@dataclass(frozen=True)
class Sample:
    """One image (or none) with one or more independent turns."""

    key: str
    category: str
    group: str
    """Name of the held-out group in the test split, else empty."""
    split: str
    image: bytes | None
    """Encoded image as it lies in the shard (PNG, JPEG, WebP; in raw datasets whatever the source had)."""
    turns: tuple[Turn, ...]


def read_samples(dataset: Dataset, split: str, *, categories: Collection[str] | None = None) -> list[Sample]:
    """Samples of a split in shard order, of all categories or of those named.

    Raises:
        SourceError: the split has no shard, or a shard cannot be read; names the shard.
    """
    samples = [sample for name, file in iter_shards(dataset, split) for sample in _read_shard(name, file)]
    return [sample for sample in samples if categories is None or sample.category in categories]


def _read_shard(name: str, file: BinaryIO) -> Iterator[Sample]:
    try:
        with tarfile.open(fileobj=file, mode="r|") as tar:  # a stream: the file may come from afar
            image: tuple[str, bytes] | None = None
            for member in tar:
                content = tar.extractfile(member)
                assert content is not None, f"{member.name} in {name} is not a file"
                stem, _, suffix = member.name.rpartition(".")
                if suffix == "json":
                    own = image[1] if image and image[0] == stem else None
                    yield _sample(json.loads(content.read()), own)
                else:
                    image = stem, content.read()
    except (tarfile.TarError, json.JSONDecodeError, KeyError) as error:
        raise SourceError(
            f"a shard cannot be read: {error!r}", where=name, fix="fetch the dataset again (`dvc checkout`)"
        ) from error


def _sample(fields: dict[str, object], image: bytes | None) -> Sample:
    turns = fields["turns"]
    assert isinstance(turns, list)
    return Sample(
        key=str(fields["key"]),
        category=str(fields["category"]),
        group=str(fields["group"]),
        split=str(fields["split"]),
        image=image,
        turns=tuple(Turn(str(turn["question"]), str(turn["answer"])) for turn in turns),
    )
