"""The `[curate.diversity]` section: what samples are about, and how much of each is wanted."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from components.config.base import Frozen
from components.config.chat import ChatConfig

OTHER = "other"
"""What fits nowhere; always there, on both levels."""
NAME = r"^[a-z0-9][a-z0-9_-]*$"


class Topic(Frozen):
    """A label of the first level, with those of the second under it."""

    name: str = Field(pattern=NAME)
    wanted: bool = True
    """Samples of an unwanted topic are rejected, in every split."""
    description: str = ""
    """Said to the model that labels."""
    children: tuple[str, ...] = ()
    """Labels of the second level. With any there is also `<name>/other`; without, the label is `<name>`."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Full labels: `nature/animals`."""
        if not self.children:
            return (self.name,)
        return tuple(f"{self.name}/{child}" for child in (*self.children, OTHER))


class Cap(Frozen):
    """How much of the training samples one label may be."""

    max_share: float = Field(1.0, gt=0, le=1)
    """Of what is kept."""
    max_count: int = Field(0, ge=0)
    """Samples; 0: any number."""


class LabellerConfig(Frozen):
    """A model that labels some samples, and a light classifier that learns the rest from it, as FineWeb-Edu
    was filtered (Penedo et al. 2024, arXiv 2406.17557)."""

    chat: ChatConfig
    """Its answers stay in the workspace's `.opsin/cache/labels/<dataset>`: no run pays for one again, and the
    budget counts all that was ever paid."""
    samples: int = Field(1000, ge=50)
    """Samples that the model is asked about (a seeded choice among those without a label)."""
    show_images: bool = True
    """Whether the model sees the picture or only its text."""
    max_side: int = Field(512, ge=32)
    """Pixels of the longer side that the picture it sees is brought down to: the source's own, loaded once
    more, or the delivered one where that fails."""
    folds: int = Field(5, ge=2)
    """Agreement is measured on labels that the classifier did not learn from, fold by fold; labels with
    fewer examples than folds count as `other`."""
    min_confidence: float = Field(0.5, ge=0, lt=1)
    """The classifier's probability below which a sample is `other`."""
    min_macro_f1: float = Field(0.5, ge=0, le=1)
    """The gate fails when the classifier agrees less with the model than this, on held-out samples."""


class DiversityConfig(Frozen):
    """Labels from a taxonomy of two levels, a balance report, and caps."""

    taxonomy: tuple[Topic, ...] = Field(min_length=1)
    source_labels: dict[str, str] = Field(default_factory=dict)
    """A source's own label → label of the taxonomy. Keys may hold `*` and `?`; the longest that fits wins."""
    labeller: LabellerConfig | None = None
    """For samples whose source label is not in the table; without one they are `other`."""
    max_share: float = Field(1.0, gt=0, le=1)
    """Of the training samples that are kept, for every label but `other`."""
    max_count: int = Field(0, ge=0)
    """Training samples, for every label but `other`; 0: any number."""
    caps: dict[str, Cap] = Field(default_factory=dict)
    """Label → its own cap, in place of the two above."""
    surplus: Literal["hash", "alignment"] = "hash"
    """What a cap drops first: a choice by hash, or the worst aligned. Only with a pretrained CLIP: a scorer
    that learned from the corpus takes what is rare for misaligned."""

    @property
    def labels(self) -> tuple[str, ...]:
        """All full labels, `other` last."""
        return (*(label for topic in self.taxonomy for label in topic.labels), OTHER)

    @property
    def unwanted(self) -> frozenset[str]:
        return frozenset(label for topic in self.taxonomy if not topic.wanted for label in topic.labels)

    @model_validator(mode="after")
    def _known_labels(self) -> Self:
        names = [topic.name for topic in self.taxonomy]
        if len(set(names)) < len(names) or OTHER in names:
            raise ValueError(f"taxonomy: names must differ, and `{OTHER}` is there already")
        for topic in self.taxonomy:
            if len(set(topic.children)) < len(topic.children) or OTHER in topic.children:
                raise ValueError(f"{topic.name}: children must differ, and `{OTHER}` is there already")
            if any("/" in child or not child for child in topic.children):
                raise ValueError(f"{topic.name}: a child has no name or a `/` in it; there are two levels")
        unknown = sorted({*self.source_labels.values(), *self.caps} - set(self.labels))
        if unknown:
            raise ValueError(f"not in the taxonomy: {', '.join(unknown)}; it has {', '.join(self.labels)}")
        return self
