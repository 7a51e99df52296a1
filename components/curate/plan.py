"""List the samples of every source, in a fixed order: what is to be examined, and where it comes from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from components.artifacts import Source
from components.config import CurateConfig, SourceConfig
from components.curate.fetch import Fetched
from components.curate.samples import Candidate, Draft, share
from components.curate.schemes import locators, reader_name, reader_of, scheme_of, source_id, source_keys
from components.curate.sources import READERS
from components.errors import ConfigError, SourceError


@dataclass(frozen=True)
class Task:
    """One draft with everything a worker process needs to load or to draw it."""

    key: str
    reader: str
    draft: Draft
    keep_pixels: bool = False
    """Whether the decode leaves its pixels for the models that judge pictures."""

    @property
    def has_image(self) -> bool:
        reader = READERS[self.reader]
        return bool(self.draft.payload) and (reader.load is not None or reader.render is not None)

    @property
    def encoded(self) -> bool:
        """Whether the source holds an encoded picture (else it is drawn from data)."""
        return self.has_image and READERS[self.reader].load is not None

    def load(self) -> bytes:
        """The encoded picture as the source holds it."""
        load = READERS[self.reader].load
        assert load is not None
        return load(self.draft.payload)


@dataclass(frozen=True)
class Planned:
    """A sample with the source that it belongs to."""

    task: Task
    candidate: Candidate
    source: SourceConfig
    path: Path
    """What was fetched of the source."""


@dataclass(frozen=True)
class Plan:
    """All samples in their fixed order, and what was fetched for them."""

    samples: tuple[Planned, ...]
    sources: tuple[Source, ...]


def plan_sources(config: CurateConfig) -> Plan:
    """List the drafts of every source; fetch what the cache lacks.

    Raises:
        ConfigError: a source does not exist, is listed twice, or gives no sample.
        SourceError: a source could not be fetched.
    """
    samples: list[Planned] = []
    sources: dict[str, Source] = {}
    keys = source_keys(config)
    for source in config.sources:
        fetched = {
            role: scheme_of(each).fetch(each, source, config.execution.downloads)
            for role, each in locators(source).items()
        }
        if source.digest and fetched["data"].sha256 != source.digest:
            raise SourceError(
                f"{source.locator} changed while the run began",
                where="curate.sources",
                fix="run the same command again",
            )
        drafts = _limit(_plan_drafts(fetched, source, config), source, config.seed)
        for role, each in fetched.items():
            earlier = sources[each.locator].num_samples if each.locator in sources else 0
            sources[each.locator] = Source(
                locator=each.locator,
                version=each.version,
                sha256=each.sha256,
                licence=source.licence or each.licence if role == "data" else each.licence,
                num_samples=earlier + (len(drafts) if role == "data" else 0),
            )
        prefix = keys[source_id(source)]
        named = zip(name_keys(prefix, [draft.original_id for draft in drafts]), drafts, strict=True)
        samples += [_planned(key, draft, source, fetched["data"]) for key, draft in named]
    return Plan(tuple(samples), tuple(sources.values()))


def _plan_drafts(fetched: dict[str, Fetched], source: SourceConfig, config: CurateConfig) -> list[Draft]:
    paths: dict[str, Path] = {role: each.path for role, each in fetched.items()}
    drafts = reader_of(source).plan(paths, source, config)
    if not drafts:
        raise ConfigError(
            f"reader '{reader_name(source)}' finds no sample in it",
            where=f"curate.sources, {source.locator}",
            fix="take another package or version, or mend the source's options",
        )
    return drafts


def _planned(key: str, draft: Draft, source: SourceConfig, fetched: Fetched) -> Planned:
    task = Task(key, reader_name(source), draft)
    candidate = Candidate(
        key=key,
        category=source.category,
        group=draft.group,
        split=draft.split,
        source=fetched.locator,
        source_version=fetched.version,
        licence=draft.licence or source.licence or fetched.licence,
        original_id=draft.original_id,
        turns=draft.turns,
        label=draft.label,
        facts=draft.facts,
        has_image=task.has_image,
    )
    return Planned(task, candidate, source, fetched.path)


def name_keys(prefix: str, original_ids: Sequence[str]) -> list[str]:
    """Keys that depend on nothing but the sample's own id, so that a source that grows renames no sample."""
    seen: dict[str, int] = {}
    keys = []
    for original_id in original_ids:
        key = f"{prefix}-{hashlib.sha256(original_id.encode('utf-8', 'replace')).hexdigest()[:16]}"
        seen[key] = seen.get(key, 0) + 1
        keys.append(key if seen[key] == 1 else f"{key}-{seen[key]}")
    return keys


def _limit(drafts: Sequence[Draft], source: SourceConfig, seed: int) -> list[Draft]:
    """A seeded choice of at most `limit` drafts per split, in the planned order.

    What the reader refused does not count: of those come along that the choice passed on its way, as many in
    proportion as the whole source has.
    """
    if not source.limit:
        return list(drafts)
    numbered = list(enumerate(drafts))
    ranked = sorted(numbered, key=lambda pair: share(seed, "limit", source.locator, pair[1].original_id))
    taken: dict[str, int] = {}
    chosen = []
    for index, draft in ranked:
        if taken.get(draft.split, 0) < source.limit:
            taken[draft.split] = taken.get(draft.split, 0) + ("failed" not in draft.payload)
            chosen.append((index, draft))
    return [draft for _, draft in sorted(chosen, key=lambda pair: pair[0])]
