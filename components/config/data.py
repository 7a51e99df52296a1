"""The `[curate]` section and its sources."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from components.config.base import Frozen, StageConfig, execution_field


class SourceConfig(Frozen):
    """One raw source: where it is, how it is read, and what it becomes."""

    locator: str = Field(pattern=r"^(pypi|npm):.+==.+$")
    """`pypi:NAME==VERSION` or `npm:NAME==VERSION`; exact versions only."""
    reader: Literal["easy_vqa", "emoji", "digits", "tables"]
    category: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    """Mixture component that its samples belong to."""
    limit: int = Field(0, ge=0)
    """Samples to take at most (a seeded choice per split); 0 takes all."""
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
