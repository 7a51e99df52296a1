"""The `[curate]` section and its sources."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from components.config.base import Frozen, StageConfig, execution_field


class TextFilter(Frozen):
    """What is asked of a source's texts, before anything is drawn."""

    min_chars: int = Field(1, ge=0)
    max_chars: int = Field(2000, ge=1)
    """Characters of an answer."""
    max_repeats: int = Field(0, ge=0)
    """An answer that more samples of the source share (numbers aside) is boilerplate; 0: repeats are fine,
    as they are for yes and no."""
    personal_data: bool = True
    """Reject samples with an e-mail address or a phone number."""


class SourceConfig(Frozen):
    """One raw source: where it is, how it is read, and what it becomes."""

    locator: str = Field(pattern=r"^(pypi|npm|deb):.+==.+$")
    """`pypi:NAME==VERSION`, `npm:NAME==VERSION` or `deb:NAME==VERSION`; exact versions only."""
    reader: Literal["clipart", "digits", "easy_vqa", "emoji", "tables"]
    category: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    """Mixture component that its samples belong to."""
    limit: int = Field(0, ge=0)
    """Samples to take at most (a seeded choice per split); 0 takes all."""
    text: TextFilter = TextFilter()
    options: dict[str, str | int | float | bool | list[str]] = Field(default_factory=dict)
    """What the reader wants besides, for example `vendor` or `held_out` of emoji."""


class CurateConfig(StageConfig):
    """Raw sources → versioned, gated, deduplicated WebDataset shards."""

    name: str = Field("dataset", pattern=r"^[a-z][a-z0-9-]*$")
    """Name of the dataset; DVC tracks it as `data/<name>`."""
    sources: tuple[SourceConfig, ...] = Field(min_length=1)
    image_size: int = Field(64, ge=16, le=4096)
    """Side in pixels that sources are rendered at."""
    samples_per_shard: int = Field(1000, ge=1)
    phash_distance: int = Field(0, ge=0, le=16)
    """Hamming distance of 64-bit perceptual hashes up to which two images count as near duplicates."""
    min_samples_per_category: int = Field(50, ge=1)
    """The data gate fails when a category keeps fewer training samples."""
    max_rejected_share: float = Field(0.5, ge=0, le=1)
    """The data gate fails when a larger share of all samples was rejected."""
    remote: str = execution_field("", description="DVC remote URL; empty: a local directory in .opsin/")
