"""The `[curate]` section and its sources."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from typing import Literal, TypeVar

from pydantic import Field, field_validator, model_validator

from components.config.annotate import AnnotateConfig
from components.config.base import Frozen, StageConfig, execution_field
from components.config.diversity import DiversityConfig
from components.config.duplicates import NearDuplicateConfig
from components.config.images import ImageLimits
from components.config.scorers import AlignmentConfig, SafetyConfig
from components.config.text import TextFilter
from components.config.urls import UrlConfig
from components.config.video import EpisodeFilter, VideoFilter

Section = TypeVar("Section", bound=Frozen)
LOCATORS = {
    "pypi": "pypi:NAME==VERSION",
    "npm": "npm:NAME==VERSION",
    "deb": "deb:NAME==VERSION",
    "hub": "hub:ORG/NAME@REVISION",
    "folder": "folder:PATH",
    "webdataset": "webdataset:PATTERN",
    "urls": "urls:TABLE",
}
"""Scheme → how a locator of it is written."""


class SourceConfig(Frozen):
    """One raw source: where it is, how it is read, and what it becomes."""

    locator: str
    """`pypi:NAME==VERSION`, `npm:NAME==VERSION`, `deb:NAME==VERSION` (exact versions only),
    `hub:ORG/NAME@REVISION`, `folder:PATH`, `webdataset:PATTERN`, or `urls:TABLE`."""
    reader: str = Field("", pattern=r"^[a-z_]*$")
    """How it is read; empty for `hub`, `folder`, `webdataset` and `urls`: they have readers of their own."""
    category: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    """Mixture component that its samples belong to."""
    limit: int = Field(0, ge=0)
    """Samples to take at most (a seeded choice per split); 0 takes all."""
    licence: str = ""
    """Licence of its samples where the source itself declares none (SPDX where there is one)."""
    digest: str = Field("", pattern=r"^([0-9a-f]{64})?$")
    """SHA-256 of the content of a source that has no version (`folder`, `webdataset`, `urls`, a local
    `hub` directory). Empty: taken as it is found; given: another content is refused."""
    text: TextFilter = TextFilter()
    urls: UrlConfig = UrlConfig()
    """How pictures are downloaded, of a `urls:` source."""
    options: dict[str, str | int | float | bool | list[str] | dict[str, str]] = Field(default_factory=dict)
    """What the reader wants besides, for example `groups` or `held_out` of emoji."""

    @field_validator("locator")
    @classmethod
    def _locates(cls, text: str) -> str:
        scheme, _, rest = text.partition(":")
        if scheme not in LOCATORS:
            raise ValueError(f"there is no scheme '{scheme}': write {', '.join(LOCATORS.values())}")
        name, equals, version = rest.partition("==")
        if not rest or ("==" in LOCATORS[scheme] and not (name and equals and version)):
            raise ValueError(f"write {LOCATORS[scheme]}")
        return text


class CurateConfig(StageConfig):
    """Raw sources → versioned, gated, deduplicated WebDataset shards."""

    name: str = Field("dataset", pattern=r"^[a-z][a-z0-9-]*$")
    """Name of the dataset; DVC tracks it as `data/<name>`."""
    sources: tuple[SourceConfig, ...] = Field(min_length=1)
    """One may be listed several times where its reader, category or options differ."""
    images: ImageLimits = ImageLimits()
    """What pictures of every source must be."""
    image_size: int = Field(64, ge=16, le=4096)
    """Side in pixels that sources are drawn at, and that pictures are brought to when preprocessed."""
    delivery: Literal["raw", "preprocessed", "embeddings"] = "preprocessed"
    """What the shards hold: pictures as the source has them (drawn ones as PNG), pictures brought to
    `image_size`, or features of a frozen vision tower (`tower`) of the preprocessed pictures."""
    fit: Literal["pad", "inside", "crop"] = "pad"
    """How a preprocessed picture comes to `image_size`: padded with white to a square, its longer side
    brought to it, or cropped to a square."""
    image_format: Literal["png", "jpeg", "webp"] = "png"
    """Of preprocessed and drawn pictures."""
    image_quality: int = Field(90, ge=1, le=100)
    """Of JPEG and WebP."""
    tower: str = ""
    """Vision tower of the `embeddings` delivery: a directory, or a name on the hub."""
    samples_per_shard: int = Field(1000, ge=1)
    """Roughly: the number of shards is the power of two that keeps them at most this large on average."""
    duplicates: NearDuplicateConfig = NearDuplicateConfig()
    """When two samples are one, within a split and across splits."""
    safety: SafetyConfig | None = None
    """Reject unsafe pictures (a packaged model, 70 pictures a second and core)."""
    alignment: AlignmentConfig | None = None
    """Score how well pictures and their texts belong together, and reject what does not."""
    video: VideoFilter = VideoFilter()
    """What clips must be."""
    episodes: EpisodeFilter = EpisodeFilter()
    """What vision-language-action episodes must be."""
    annotate: AnnotateConfig | None = None
    """New questions and answers, for what is left."""
    diversity: DiversityConfig | None = None
    """A taxonomy, labels, and caps per label."""
    min_samples_per_category: int = Field(50, ge=1)
    """The data gate fails when a category keeps fewer training samples."""
    max_rejected_share: float = Field(0.5, ge=0, le=1)
    """The data gate fails when a larger share of all samples was rejected. What a cap of `diversity` leaves
    out (`label_cap`) counts as sound: it is a choice, and nothing is wrong with it."""
    max_category_share: float = Field(1.0, gt=0, le=1)
    """The data gate fails when one category is a larger share of the training samples."""
    max_drift: float = Field(1.0, ge=0, le=1)
    """The data gate fails when a property moved further from the version that the workspace holds (total
    variation or Kolmogorov–Smirnov distance); 1: drift is reported and never blocks."""
    allowed_licences: tuple[str, ...] = ()
    """Licences (as declared, one by one) that samples may have; empty allows every declared one."""
    digests: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of the files and folders that other keys name (evaluation sets, reviews, models), found before
    anything runs: when one changes, the data are made again. One that is given must be what is found."""
    remote: str = execution_field("", description="DVC remote URL; empty: a local directory in .opsin/")

    @model_validator(mode="after")
    def _tower_for_embeddings(self) -> CurateConfig:
        if (self.delivery == "embeddings") != bool(self.tower):
            raise ValueError("`tower` is needed for delivery = 'embeddings', and for nothing else")
        return self

    @model_validator(mode="after")
    def _categories_exist(self) -> CurateConfig:
        """What names a category names one that a source gives."""
        self.check_categories(self._named_categories())
        return self

    def check_categories(self, named: Iterable[tuple[str, Iterable[str]]]) -> None:
        """
        Args:
            named: Key of the config → the categories that stand there.

        Raises:
            ValueError: no source gives one of them.
        """
        known = {source.category for source in self.sources}
        for key, names in named:
            unknown = sorted(set(names) - known)
            if unknown:
                raise ValueError(
                    f"{key}: no source has the category {', '.join(unknown)}; "
                    f"categories: {', '.join(sorted(known))}"
                )

    def of_sources(self, sources: tuple[SourceConfig, ...]) -> CurateConfig:
        """This config with some of its sources only, and without what names categories of the others."""
        known = {"*", *(source.category for source in sources)}
        alignment, annotate = self.alignment, self.annotate
        if annotate:
            ocr, teacher = annotate.ocr, annotate.teacher
            prompts = _keep(teacher.prompts, known) if teacher else ()
            annotate = annotate.model_copy(
                update={
                    "ocr": next(iter(_keep((ocr,), known)), None) if ocr else None,
                    "teacher": teacher.model_copy(update={"prompts": prompts})
                    if teacher and prompts
                    else None,
                }
            )
        return self.model_copy(
            update={
                "sources": sources,
                "duplicates": _keep_names(self.duplicates, "same_text_only", known),
                "safety": _keep_names(self.safety, "exempt", known) if self.safety else None,
                "alignment": next(iter(_keep((alignment,), known)), None) if alignment else None,
                "annotate": annotate,
            }
        )

    def _named_categories(self) -> Iterator[tuple[str, Sequence[str]]]:
        """Key → the categories that stand there."""
        yield "duplicates.same_text_only", [each for each in self.duplicates.same_text_only if each != "*"]
        if self.safety:
            yield "safety.exempt", self.safety.exempt
        if self.alignment:
            yield "alignment.categories", self.alignment.categories
        if self.annotate and self.annotate.ocr:
            yield "annotate.ocr.categories", self.annotate.ocr.categories
        for prompt in self.annotate.teacher.prompts if self.annotate and self.annotate.teacher else ():
            yield f"annotate.teacher, prompt {prompt.name}", prompt.categories


def _keep_names(section: Section, key: str, known: Container[str]) -> Section:
    return section.model_copy(update={key: tuple(name for name in getattr(section, key) if name in known)})


def _keep(sections: Iterable[Section], known: Container[str]) -> tuple[Section, ...]:
    """Those with a category that is known, or for all of them (that is what none means)."""
    kept = ((each, _keep_names(each, "categories", known)) for each in sections)
    return tuple(after for before, after in kept if after.categories or not before.categories)  # type: ignore[attr-defined]
