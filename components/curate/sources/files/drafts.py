"""What readers of rows found → drafts: splits are decided, ids made unique, what is no sample says why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from components.config import CurateConfig, SourceConfig
from components.curate.samples import Draft, Reason, Split
from components.curate.sources.files.pairs import UNITS, Layout, Pair
from components.curate.sources.files.splits import Splitter

VALIDATION, TEST = 0.05, 0.1
"""Shares that are held out where neither the source nor its options say."""
MAX_SHOWN = 80


@dataclass(frozen=True)
class Found:
    """A picture with its texts, as it stands in the source."""

    original_id: str
    payload: dict[str, Any]
    """For `load`; empty where there is no picture."""
    pair: Pair
    unit: str
    """What may not be divided between splits, where no column says it."""
    split: str
    """The split that the place in the source says; the row's own comes first."""
    file_name: str = ""
    """Of the picture."""


@dataclass(frozen=True)
class Refused:
    """What is there and is no sample."""

    original_id: str
    reason: Reason


def draft_all(
    found: Sequence[Found | Refused], layout: Layout, source: SourceConfig, config: CurateConfig
) -> list[Draft]:
    """One draft for each, in the same order; the refused ones carry their reason into quarantine.

    Reason codes of its own: `no_text`, `no_image` (allowed with `text_only`), `unknown_split`, `no_group`.

    Raises:
        ConfigError: an option names a field that no row has.
    """
    layout.check_named(where=f"curate.sources, {source.locator}")
    splitter = _splitter(layout, source, config)
    judged = [_judge(each, layout, splitter) for each in found]
    own = {
        splitter.named(_split_name(each)) for each in judged if isinstance(each, Found) and _split_name(each)
    }
    splitter = replace(splitter, own=tuple(split for split in own if split))
    times: Counter[str] = Counter()
    drafts = []
    for each in judged:
        draft = _refuse(each) if isinstance(each, Refused) else _draft(each, splitter)
        times[draft.original_id] += 1
        number = times[draft.original_id]
        drafts.append(draft if number == 1 else replace(draft, original_id=f"{draft.original_id}~{number}"))
    return drafts


def _splitter(layout: Layout, source: SourceConfig, config: CurateConfig) -> Splitter:
    names = source.options.get("splits", {})
    assert isinstance(names, dict), "options are checked before anything is read"
    return Splitter(
        seed=config.seed,
        validation=float(source.options.get("validation", VALIDATION)),  # type: ignore[arg-type]
        test=float(source.options.get("test", TEST)),  # type: ignore[arg-type]
        by=layout.group_by,
        names=names,
    )


def _judge(each: Found | Refused, layout: Layout, splitter: Splitter) -> Found | Refused:
    if isinstance(each, Refused):
        return each
    name = _split_name(each)
    if not each.pair.turns:
        return Refused(each.original_id, Reason("no_text", evidence=each.pair.label[:MAX_SHOWN]))
    if not each.payload and not layout.text_only:
        return Refused(each.original_id, Reason("no_image", evidence=each.pair.turns[0].answer[:MAX_SHOWN]))
    if name and splitter.named(name) is None:
        return Refused(each.original_id, Reason("unknown_split", evidence=name[:MAX_SHOWN]))
    if layout.group_by not in UNITS and not each.pair.group:
        return Refused(each.original_id, Reason("no_group", evidence=f"'{layout.group_by}' says nothing"))
    return each


def _split_name(each: Found) -> str:
    return each.pair.split or each.split


def _refuse(each: Refused) -> Draft:
    failed = {"failed": each.reason.code, "evidence": each.reason.evidence}
    return Draft(each.original_id, "train", "", (), failed)


def _draft(each: Found, splitter: Splitter) -> Draft:
    split: Split | None = splitter.named(_split_name(each)) if _split_name(each) else None
    placed, group = splitter.place(split, each.pair.group or each.unit)
    return Draft(
        original_id=each.original_id,
        split=placed,
        group=group,
        turns=each.pair.turns,
        payload=each.payload,
        label=each.pair.label,
        facts=each.pair.facts,
        licence=each.pair.licence,
        file_name=each.file_name,
    )
