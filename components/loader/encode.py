"""Tokenize once: samples → flat arrays of tokens and pixels, cached on disk and shared by runs.

A sample's tokens are a trunk (start token, user header, image tokens) that all its turns share, and the
turns; a chat is one turn of everything behind an empty trunk. The texts come from the processor's own chat
template, so that trunk + turn is, token by token, what the processor gives for the chat at evaluation and
serving.

Letters in array names: S samples, N tokens, T turns, I images, G trunks, R rows of the pixel store.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from components.errors import SourceError
from components.loader.chats import Chat, Unit, Writer, num_units, slotted
from components.loader.features import Features, Halves, read_features
from components.loader.pixels import CachedImages, Images, NoImages, decode, size_of
from components.loader.samples import FEATURES, Place, Sample
from components.progress import track
from components.vlm.families import Family, Grid, Pixels

Ints = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Turns:
    """The turns of all samples in one form (with the pictures, or text only)."""

    trunks_N: Ints
    """Tokens of the different trunks, one after another."""
    trunk_G: Longs
    """Where a trunk's tokens start (one more entry than trunks: the end)."""
    trunk_S: Ints
    """Number of a sample's trunk."""
    tokens_N: Ints
    """Tokens of all turns, one after another."""
    start_T: Longs
    """Where a turn's tokens start (one more entry than turns: the end)."""
    label_N: npt.NDArray[np.bool_]
    """Which tokens the model learns to write: answers and their end tokens."""

    def trunk(self, sample: int) -> Ints:
        """Tokens that stand before every turn of a sample."""
        number = int(self.trunk_S[sample])
        return self.trunks_N[self.trunk_G[number] : self.trunk_G[number + 1]]

    @property
    def trunk_tokens_S(self) -> Longs:
        lengths: Longs = np.diff(self.trunk_G)[self.trunk_S]
        return lengths

    @property
    def labelled_T(self) -> Longs:
        """Labelled tokens of each turn."""
        before = np.concatenate([[0], np.cumsum(self.label_N, dtype=np.int64)])
        labelled: Longs = np.diff(before[self.start_T])
        return labelled


@dataclass(frozen=True)
class Encoded:
    """A split, tokenized."""

    categories: tuple[str, ...]
    keys: tuple[str, ...]
    category_S: Ints
    turn_S: Longs
    """First turn of a sample (one more entry than samples: the end)."""
    image_S: Longs
    """First image of a sample (one more entry: the end)."""
    grid_I2: Ints
    """Rows and columns of each image."""
    row_I: Longs
    """First row of each image in the pixel store (one more entry: the end)."""
    shards: tuple[str, ...]
    place_I3: Longs
    """Number of the shard, offset and size of each image."""
    plain_S: npt.NDArray[np.bool_]
    """Whether the sample can be shown without its pictures."""
    with_image: Turns
    text_only: Turns
    images: Images = field(repr=False)
    features: Features | None = field(default=None, repr=False)
    """What a vision tower made of the images, where the dataset was delivered as embeddings."""

    def __len__(self) -> int:
        return len(self.category_S)

    def turns(self, image: bool) -> Turns:
        return self.with_image if image else self.text_only

    def images_of(self, sample: int) -> range:
        """Numbers of the sample's images."""
        return range(int(self.image_S[sample]), int(self.image_S[sample + 1]))

    def grids(self, sample: int) -> list[Grid]:
        """How the sample's images are cut."""
        return [self.grid(image) for image in self.images_of(sample)]

    def grid(self, image: int) -> Grid:
        rows, columns = self.grid_I2[image]
        return int(rows), int(columns)


def encode(
    samples: Iterable[Sample],
    family: Family,
    *,
    max_tokens: int = 0,
    by_group: bool = False,
    keep_pixels: bool = True,
) -> Encoded:
    """Tokenize every turn and decode every picture.

    Args:
        max_tokens: Pictures are cut into fewer tiles until a sample's longest turn fits; 0: they are not.
        by_group: Tell samples apart by their held-out group (as `category/group`) and not by category.
        keep_pixels: Keep all decoded pictures in memory; without them the samples may be a stream.

    Raises:
        SourceError: a text holds a special token (it would be read as an image or as an end), or as many
            places of pictures as it has none of.
    """
    pixels: list[Pixels] = []
    features: list[Halves] = []
    gathered = _Gathered(family, max_tokens, by_group)
    total = len(samples) if isinstance(samples, Sequence) else 0
    for sample in track(samples, "tokenize", total=total, unit="samples"):
        grids = gathered.add(sample)
        for image, grid in zip(sample.images, grids, strict=True):
            if image.startswith(FEATURES):
                features.append(read_features(image))
            elif keep_pixels:
                pixels.append(decode(image, family, grid))
    encoded = gathered.encoded()
    if features:
        return replace(encoded, features=Features(_whole(features, len(encoded.grid_I2)), encoded.row_I))
    if not keep_pixels:
        return encoded
    whole = np.concatenate(pixels) if pixels else np.zeros((0, *family.row_shape), dtype=np.uint8)
    return replace(encoded, images=CachedImages(whole, encoded.row_I))


def _whole(features: list[Halves], images: int) -> Halves:
    """(R, P, D) of all images, a row each.

    Raises:
        SourceError: some images are features and others pictures, or towers differ.
    """
    shapes = {each.shape for each in features}
    if len(shapes) > 1 or len(features) != images:
        raise SourceError(
            f"{len(features)} of {images} images are features, of shapes {sorted(shapes)}",
            where="the dataset's shards",
            fix="deliver all of the dataset as embeddings of one tower (curate.delivery, curate.tower)",
        )
    return np.stack(features)


@dataclass
class _Form:
    """What is gathered of one form: the different trunks, each sample's, and all units."""

    trunks: dict[str, int] = field(default_factory=dict)
    trunk_S: list[int] = field(default_factory=list)
    units: list[Unit] = field(default_factory=list)

    def add(self, chat: Chat) -> None:
        self.trunk_S.append(self.trunks.setdefault(chat.trunk, len(self.trunks)))
        self.units += chat.units


class _Gathered:
    """Samples on their way to arrays: texts are tokenized all together at the end."""

    def __init__(self, family: Family, max_tokens: int, by_group: bool) -> None:
        self.family, self.max_tokens, self.by_group = family, max_tokens, by_group
        self.writer = Writer(family)
        self.backend = family.tokenizer.backend_tokenizer
        self.backend.no_padding()
        self.backend.no_truncation()
        self.labels: list[str] = []
        self.keys: list[str] = []
        self.units: list[int] = []
        self.images: list[int] = []
        self.grids: list[Grid] = []
        self.places: list[Place] = []
        self.plain: list[bool] = []
        self.with_image, self.text_only = _Form(), _Form()

    def add(self, sample: Sample) -> list[Grid]:
        """Keep the sample's texts; tells how its pictures are cut."""
        grids = self._cut(sample)
        self.with_image.add(self.writer.write(sample, grids))
        self.text_only.add(self.writer.without(sample))
        self.labels.append(f"{sample.category}/{sample.group}" if self.by_group else sample.category)
        self.keys.append(sample.key)
        self.units.append(num_units(sample))
        self.images.append(len(sample.images))
        self.grids += grids
        self.places += sample.places or (Place("", 0, 0),) * len(sample.images)
        self.plain.append(not (sample.images and (sample.chat or slotted(sample))))
        return grids

    def _cut(self, sample: Sample) -> list[Grid]:
        """How the pictures are cut: as the family does it, or smaller until the longest turn fits."""
        _, height, width = self.family.row_shape
        sizes = [(width, height) if image.startswith(FEATURES) else size_of(image) for image in sample.images]
        grids = [self.family.grid(*size) for size in sizes]
        most = max((self.family.num_shrinks(*size) for size in sizes), default=0) if self.max_tokens else 0
        for shrink in range(1, most + 1):
            if self._longest(self.writer.write(sample, grids)) <= self.max_tokens:
                break
            grids = [
                self.family.grid(*size, shrink=min(shrink, self.family.num_shrinks(*size))) for size in sizes
            ]
        return grids

    def _longest(self, chat: Chat) -> int:
        """Tokens of the trunk and the longest unit."""
        trunk, *units = self.backend.encode_batch_fast(
            [chat.trunk, *(unit.text for unit in chat.units)], add_special_tokens=False
        )
        return len(trunk.ids) + max(len(unit.ids) for unit in units)

    def encoded(self) -> Encoded:
        categories = tuple(sorted(set(self.labels)))
        number = {name: index for index, name in enumerate(categories)}
        shards = tuple(dict.fromkeys(place.shard for place in self.places))
        shard = {name: index for index, name in enumerate(shards)}
        rows = [self.family.rows(grid) for grid in self.grids]
        places = [(shard[place.shard], place.offset, place.size) for place in self.places]
        return Encoded(
            categories=categories,
            keys=tuple(self.keys),
            category_S=np.array([number[label] for label in self.labels], dtype=np.int32),
            turn_S=_starts(self.units),
            image_S=_starts(self.images),
            grid_I2=np.array(self.grids, dtype=np.int32).reshape(-1, 2),
            row_I=_starts(rows),
            shards=shards,
            place_I3=np.array(places, dtype=np.int64).reshape(-1, 3),
            plain_S=np.array(self.plain, dtype=np.bool_),
            with_image=self._tokenized(self.with_image),
            text_only=self._tokenized(self.text_only),
            images=NoImages(),
        )

    def _tokenized(self, form: _Form) -> Turns:
        trunks = [
            each.ids for each in self.backend.encode_batch_fast(list(form.trunks), add_special_tokens=False)
        ]
        units = self.backend.encode_batch([unit.text for unit in form.units], add_special_tokens=False)
        ids = [np.array(each.ids, dtype=np.int32) for each in units]
        labels = [_learned(each.offsets, unit) for each, unit in zip(units, form.units, strict=True)]
        return Turns(
            trunks_N=np.array([token for trunk in trunks for token in trunk], dtype=np.int32),
            trunk_G=_starts([len(trunk) for trunk in trunks]),
            trunk_S=np.array(form.trunk_S, dtype=np.int32),
            tokens_N=np.concatenate(ids) if ids else np.zeros(0, np.int32),
            start_T=_starts([len(each) for each in ids]),
            label_N=np.concatenate(labels) if labels else np.zeros(0, np.bool_),
        )


def _learned(offsets: Sequence[tuple[int, int]], unit: Unit) -> npt.NDArray[np.bool_]:
    """Which tokens end inside a learned span. (Where a token begins depends on how the tokenizer counts the
    space before a word; where it ends does not.)"""
    ends_N = np.fromiter((end for _, end in offsets), np.int64, len(offsets))
    learned_N = np.zeros(len(offsets), np.bool_)
    for first, last in unit.learned:
        learned_N |= (first < ends_N) & (ends_N <= last)
    return learned_N


def _starts(lengths: Sequence[int]) -> Longs:
    return np.array([0, *accumulate(lengths)], dtype=np.int64)
