"""A list of URLs with captions as samples: the pictures that came, and those that did not with the reason."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_origin

from yarl import URL

from components.config import CurateConfig, SourceConfig
from components.curate.samples import Draft, Split, Turn, share
from components.curate.sources.reader import Reader
from components.curate.sources.urls.lists import (
    BadRow,
    ListOptions,
    UrlRow,
    list_files,
    parse_options,
    read_rows,
)
from components.curate.sources.urls.selection import chosen, refusal
from components.curate.sources.urls.store import Status, read_statuses

QUESTIONS = (
    "Describe the picture.",
    "What does the picture show?",
    "Write a caption for this picture.",
    "What can be seen here?",
)


def plan(archives: Mapping[str, Path], source: SourceConfig, config: CurateConfig) -> list[Draft]:
    """One draft a row, in the list's order. Rows without a picture, or that cannot be read, say why."""
    options, statuses = parse_options(source), read_statuses(archives["data"])
    times: Counter[str] = Counter()
    drafts = []
    for row in read_rows(list_files(source.locator), options):
        if not chosen(row.original_id if isinstance(row, BadRow) else row.url, options):
            continue
        if isinstance(row, BadRow):
            failed = {"failed": row.reason.code, "evidence": row.reason.evidence}
            drafts.append(Draft(row.original_id, "train", "", (), failed))
            continue
        original_id = _identify(row, times)
        split = _split(row.url, options, config.seed)
        drafts.append(
            Draft(
                original_id=original_id,
                split=split,
                group=f"unseen_{options.split_by}s" if split == "test" else "",
                turns=(Turn(_question(row.url, options), row.caption),),
                payload=_payload(row, options, statuses.get(row.url)),
                label=row.label,
                facts=row.facts,
                licence=row.licence,
            )
        )
    return drafts


def load(payload: dict[str, Any]) -> bytes:
    """The picture as its server sent it.

    Raises:
        OSError: the download cache is gone or damaged.
    """
    with open(payload["path"], "rb") as file:
        file.seek(payload["offset"])
        content = file.read(payload["size"])
    if hashlib.sha256(content).hexdigest() != payload["sha256"]:
        raise OSError("the download cache is damaged: other bytes than were downloaded")
    return content


def _identify(row: UrlRow, times: Counter[str]) -> str:
    """The URL; a caption's hash beside it where an URL comes again."""
    times[row.url] += 1
    if times[row.url] == 1:
        return row.url
    caption = hashlib.sha256(row.caption.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{row.url} #{times[row.url]}-{caption}"


def _split(url: str, options: ListOptions, seed: int) -> Split:
    """By the host, so that no site's pictures and captions are on both sides; or by the URL."""
    place = share(seed, "urls", _host(url) if options.split_by == "host" else url)
    if place < options.test:
        return "test"
    return "validation" if place < options.test + options.validation else "train"


def _host(url: str) -> str:
    try:
        return (URL(url).host or "").removeprefix("www.")
    except ValueError:
        return ""


def _question(url: str, options: ListOptions) -> str:
    questions = options.questions or QUESTIONS
    return questions[int(share(0, "question", url) * len(questions))]


def _payload(row: UrlRow, options: ListOptions, status: Status | None) -> dict[str, Any]:
    refused = refusal(row, options)
    if refused is not None:
        return {"failed": refused.code, "evidence": refused.evidence}
    if status is None:
        return {"failed": "not_downloaded", "evidence": "the list has changed since it was downloaded"}
    if status.code:
        return {"failed": status.code, "evidence": status.evidence}
    return {
        "path": status.path,
        "offset": status.offset,
        "size": status.size,
        "sha256": status.sha256,
    }


def _kind(annotation: Any) -> type:
    """The type that a value in TOML must have."""
    origin = get_origin(annotation)
    return str if origin is Literal else origin or annotation


READER = Reader(
    plan,
    load=load,
    options={name: _kind(info.annotation) for name, info in ListOptions.model_fields.items()},
)
