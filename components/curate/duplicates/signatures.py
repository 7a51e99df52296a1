"""What is known of samples when duplicates are looked for, as columns: 1.3 kB each, and no picture.

table = pa.table({...}, schema=SCHEMA)      # one row a sample
signatures = Signatures.of(table, same_text_only=("chart", "digits"))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from components.curate.duplicates.buckets import Rows, Words, mix
from components.curate.duplicates.perceptual import THUMB_BYTES, Hashes, Thumbnails, gray_of, hash_images
from components.curate.duplicates.verification import Flags, are_photographs
from components.errors import ConfigError

SPLITS = ("test", "validation", "train")
"""In the order of their priority: what is held out stays."""
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("split", pa.string()),
        ("category", pa.string()),
        ("pixels_sha256", pa.string()),
        ("text_sha256", pa.string()),
        ("text", pa.string()),
        ("thumbnail", pa.binary(THUMB_BYTES)),
    ]
)
"""`pixels_sha256` is empty and `thumbnail` is null for a sample without a picture; `thumbnail` comes from
`perceptual.thumbnail`; `text` may be empty where `text_threshold` is 0."""
HEX_DIGITS = 16
"""Of a digest that are compared, 64 bits: among five billion samples one pair coincides by chance."""


@dataclass(frozen=True)
class Signatures:
    """N samples in their given order."""

    keys: pa.Array
    split: npt.NDArray[np.int8]
    """Number in `SPLITS`."""
    pixels: Words
    """First 64 bits of the digest of the pixels; 0: no picture."""
    text: Words
    """First 64 bits of the digest of the text."""
    texts: pa.Array
    thumbs: Thumbnails
    same_text_only: Flags

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def has_picture(self) -> Flags:
        given: Flags = self.pixels != 0
        return given

    @cached_property
    def identity(self) -> Words:
        """Of pixels and text."""
        return mix(self.pixels) ^ self.text

    @cached_property
    def hashes(self) -> Hashes:
        """Of the whole pictures."""
        return hash_images(gray_of(self.thumbs))

    @cached_property
    def photographs(self) -> Flags:
        return are_photographs(self.thumbs)

    @classmethod
    def of(cls, table: pa.Table, *, same_text_only: Sequence[str] = ()) -> Signatures:
        """
        Args:
            table: Columns of `SCHEMA`.
            same_text_only: Categories, or `*`; as in the config.

        Raises:
            ConfigError: a column is missing or of another type, or a split does not exist.
        """
        try:
            table = table.select(SCHEMA.names).cast(SCHEMA).combine_chunks()
        except (KeyError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ConfigError(
                f"not a table of signatures: {error}", fix=f"give the columns {', '.join(SCHEMA.names)}"
            ) from error
        splits = pc.index_in(table["split"], pa.array(SPLITS))
        if splits.null_count:
            unknown = pc.unique(table["split"].filter(pc.is_null(splits))).to_pylist()
            raise ConfigError(f"unknown split {unknown[0]!r}", fix=f"splits: {', '.join(SPLITS)}")
        pixels, thumbnail = _prefixes(_column(table, "pixels_sha256")), _column(table, "thumbnail")
        if (_numpy(thumbnail.is_null()) & (pixels != 0)).any():
            raise ConfigError(
                "a picture has no thumbnail", fix="write `perceptual.thumbnail` of every picture"
            )
        wanted = pc.is_in(table["category"], pa.array(same_text_only, pa.string()))
        strict = _numpy(wanted).astype(bool) | ("*" in same_text_only)
        return cls(
            keys=_column(table, "key"),
            split=_numpy(splits).astype(np.int8),
            pixels=pixels,
            text=_prefixes(_column(table, "text_sha256")),
            texts=_column(table, "text"),
            thumbs=_thumbnails(thumbnail),
            same_text_only=strict,
        )

    @classmethod
    def concatenate(cls, parts: Sequence[Signatures]) -> Signatures:
        columns = {}
        for name in (each.name for each in fields(cls)):
            values = [getattr(part, name) for part in parts]
            columns[name] = (
                pa.concat_arrays(values) if isinstance(values[0], pa.Array) else np.concatenate(values)
            )
        return cls(**columns)

    def rows_of(self, split: str) -> Rows:
        """Rows of a split, in their order."""
        return np.flatnonzero(self.split == SPLITS.index(split))


def _column(table: pa.Table, name: str) -> pa.Array:
    column = table[name]
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _numpy(column: pa.ChunkedArray | pa.Array) -> npt.NDArray[np.generic]:
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _prefixes(digests: pa.Array) -> Words:
    """The first 16 hex digits as numbers; 0 where there are none.

    Raises:
        ConfigError: something else than hex digits.
    """
    prefixes = pc.utf8_slice_codeunits(pc.fill_null(digests, ""), 0, HEX_DIGITS)
    given = pc.utf8_length(prefixes).to_numpy(zero_copy_only=False) > 0
    strings = prefixes.to_numpy(zero_copy_only=False).astype(f"S{HEX_DIGITS}")
    characters = strings.view(np.uint8).reshape(-1, HEX_DIGITS)
    values = _hex_values()[characters]
    if (values[given] < 0).any():
        raise ConfigError("a digest is not hexadecimal", fix="give SHA-256 as 64 hex digits")
    shifts = np.arange(HEX_DIGITS - 1, -1, -1, dtype=np.uint64) * np.uint64(4)
    numbers = (np.maximum(values, 0).astype(np.uint64) << shifts).sum(axis=1, dtype=np.uint64)
    return np.where(given, np.maximum(numbers, np.uint64(1)), np.uint64(0))


def _hex_values() -> npt.NDArray[np.int8]:
    values = np.full(256, -1, np.int8)
    for number, digit in enumerate("0123456789abcdef"):
        values[ord(digit)] = values[ord(digit.upper())] = number
    return values


def _thumbnails(column: pa.Array) -> Thumbnails:
    """(N, bytes), without a copy; zeros where there is none."""
    buffer = column.buffers()[1]
    if buffer is None:
        return np.zeros((len(column), THUMB_BYTES), np.uint8)
    flat = np.frombuffer(buffer, np.uint8)
    thumbs = flat[column.offset * THUMB_BYTES : (column.offset + len(column)) * THUMB_BYTES]
    thumbs = thumbs.reshape(len(column), THUMB_BYTES)
    if column.null_count:
        absent = column.is_null().to_numpy(zero_copy_only=False)
        thumbs = np.where(absent[:, None], np.uint8(0), thumbs)
    return thumbs
