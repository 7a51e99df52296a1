"""Open Clip Art (Debian's `openclipart-svg`): drawings by many hands, captioned with their own titles.

The titles are as their authors left them (collection names, dates, e-mail addresses): what is no caption
is for the filters to find. Whole folders are held out as the test group `unseen_folders`.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from components.config import CurateConfig, SourceConfig
from components.curate.archives import members
from components.curate.samples import Draft, Split, Turn, share
from components.curate.sources.reader import Reader, Share
from components.curate.sources.vector.rasterize import rasterize

QUESTION = "What does this drawing show?"
ROOT = "usr/share/openclipart/svg/"
WORK_TITLE = re.compile(r"<cc:Work\b.*?<dc:title>(.*?)</dc:title>", re.DOTALL)
"""The first title of the work; later ones are its authors'."""
SUBJECT = re.compile(r"<dc:subject>(.*?)</dc:subject>", re.DOTALL)
KEYWORD = re.compile(r"<rdf:li>(.*?)</rdf:li>", re.DOTALL)


def plan(archives: Mapping[str, Path], source: SourceConfig, config: CurateConfig) -> list[Draft]:
    """One draft per SVG; its answer is the title in its metadata, empty where it has none."""
    held_out = float(source.options.get("unseen_folders", 0.1))  # type: ignore[arg-type]
    validation = float(source.options.get("validation", 0.05))  # type: ignore[arg-type]
    drafts = []
    for name, content in members(archives["data"]):
        if not name.startswith(ROOT) or not name.endswith(".svg"):
            continue
        original_id = name.removeprefix(ROOT)
        svg = content.decode("utf-8", "replace")
        title = WORK_TITLE.search(svg)
        answer = _plain(title.group(1)).lower() if title else ""
        split: Split = "train"
        if share(config.seed, "folder", str(PurePosixPath(original_id).parent)) < held_out:
            split = "test"
        elif share(config.seed, "clipart", original_id) < validation:
            split = "validation"
        drafts.append(
            Draft(
                original_id=original_id,
                split=split,
                group="unseen_folders" if split == "test" else "",
                turns=(Turn(QUESTION, answer),),
                payload={"svg": svg},
                label=original_id.partition("/")[0].replace("_", " "),
                facts={"title": answer, "keywords": ", ".join(_keywords(svg))},
            )
        )
    return sorted(drafts, key=lambda draft: draft.original_id)


def _keywords(svg: str) -> list[str]:
    """What the author filed the drawing under."""
    subject = SUBJECT.search(svg)
    listed = KEYWORD.findall(subject.group(1)) if subject else []
    return list(dict.fromkeys(word for each in listed if (word := _plain(each).lower())))


def _plain(text: str) -> str:
    """On one line, its entities resolved twice: eight titles of the package were escaped twice."""
    return " ".join(html.unescape(html.unescape(text)).split())


def render(payload: dict[str, Any], size: int) -> Image.Image:
    """The whole drawing on a white square."""
    return rasterize(payload["svg"], size)


READER = Reader(plan, render, options={"unseen_folders": Share, "validation": Share})
