"""The columns of `manifest.parquet`: what curation writes and the data gates judge."""

from __future__ import annotations

from dataclasses import dataclass

SPLITS = ("train", "validation", "test")
COLUMNS = {
    "key": "string",
    "shard": "string",
    "index": "int",
    "split": "string",
    "group": "string",
    "category": "string",
    "label": "string",
    "source": "string",
    "source_version": "string",
    "licence": "string",
    "original_id": "string",
    "kind": "string",
    "width": "int",
    "height": "int",
    "source_format": "string",
    "source_width": "int",
    "source_height": "int",
    "source_bytes": "int",
    "source_sha256": "string",
    "misnamed": "bool",
    "image_sha256": "string",
    "phash": "string",
    "blur": "float",
    "nsfw": "float",
    "alignment": "float",
    "text_sha256": "string",
    "num_turns": "int",
    "num_annotated": "int",
    "num_chars": "int",
    "num_words": "int",
    "sha256": "string",
    "bytes": "int",
}
"""Name → kind, in their order. `image_sha256` is over the decoded pixels, `sha256` over the bytes that are
delivered, `source_sha256` over those of the source; the three are empty for a sample without an image (the
last also for one that was drawn). `misnamed`: the file's name says another format than its content has."""
NULLABLE = ("blur", "nsfw", "alignment")
"""Measured only where it was asked for."""


@dataclass(frozen=True)
class Stored:
    """A sample as it lies in a shard."""

    sha256: str
    """Over the bytes beside the JSON; empty for text."""
    text_sha256: str
    """Over the turns in the JSON."""
