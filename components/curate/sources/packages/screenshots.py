"""Captioned figures of a manual in DocBook's XHTML (Debian's `gimp-help-en`): menus, dialogs, tools, results.

A figure's title is the caption; where a picture has a legend of its own, that is a second turn. Whole pages
are held out as `unseen_pages`; a picture that several pages show is a sample of the first of them only.
"""

from __future__ import annotations

import posixpath
import re
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from components.config import CurateConfig, SourceConfig
from components.curate.archives import members
from components.curate.samples import Draft, Turn
from components.curate.sources.planning import option, pick, split_of
from components.curate.sources.reader import Reader, Share

NAMESPACE = "{http://www.w3.org/1999/xhtml}"
NUMBER = re.compile(r"^(?:Figure|Example|Table) [A-Z0-9.]+ ")
"""`Figure 14.127. ` before a title."""
PICTURES = (".png", ".jpg", ".jpeg")
MAX_PICTURE = 1 << 20
WORDINGS = {
    "title": (
        "What does this figure show?",
        "Give the figure a title.",
        "What can be seen in this picture?",
        "Which part of the manual does this illustrate?",
    ),
    "legend": ("What does the legend of this picture say?", "Describe the picture in a sentence."),
}


@dataclass(frozen=True)
class Figure:
    """One picture of a figure."""

    file: str
    """The page's path in the package."""
    page: str
    """Title of the page."""
    picture: str
    """The picture's path in the package."""
    title: str
    legend: str
    """The picture's own, empty where it has none."""
    alone: bool
    """Whether the figure has no other picture."""


def plan(archives: Mapping[str, Path], source: SourceConfig, config: CurateConfig) -> list[Draft]:
    """One draft per picture that figures call by one title only.

    Raises:
        SourceError: the package is damaged.
    """
    limit = option(source, "max_chars", 200)
    pages, pictures = _read(archives["data"])
    shown: dict[str, list[Figure]] = defaultdict(list)
    for name in sorted(pages):
        for figure in find_figures(name, pages[name]):
            shown[figure.picture].append(figure)
    drafts = []
    for picture, figures in sorted(shown.items()):
        if picture not in pictures or len({each.title for each in figures}) > 1:
            continue
        first = figures[0]
        split = split_of(
            config.seed,
            "page",
            first.file,
            unseen=option(source, "unseen_pages", 0.12),
            validation=option(source, "validation", 0.05),
        )
        drafts.append(
            Draft(
                original_id=f"{PurePosixPath(first.file).stem}/{picture.rpartition('/images/')[2]}",
                split=split,
                group="unseen_pages" if split == "test" else "",
                turns=tuple(turn for turn in _ask(first, config.seed) if 0 < len(turn.answer) <= limit),
                payload={"picture": pictures[picture]},
                label=picture.rpartition("/images/")[2].partition("/")[0],
                facts={"title": first.title, "legend": first.legend, "page": first.page},
            )
        )
    return [draft for draft in drafts if draft.turns]


def _read(package: Path) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Pages and pictures by their path."""
    pages, pictures = {}, {}
    for name, content in members(package):
        if name.endswith((".html", ".xhtml")):
            pages[name] = content
        elif name.endswith(PICTURES) and len(content) <= MAX_PICTURE:
            pictures[name] = content
    return pages, pictures


def find_figures(file: str, content: bytes) -> Iterator[Figure]:
    """The figures of a page; nothing where the page is not well-formed."""
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError:
        return
    page = _text(root.find(f"{NAMESPACE}head/{NAMESPACE}title"))
    for figure in root.iter(f"{NAMESPACE}div"):
        if figure.get("class") not in ("figure", "informalfigure"):
            continue
        title = NUMBER.sub("", _text(figure.find(f"{NAMESPACE}p[@class='title']")))
        media = [each for each in figure.iter(f"{NAMESPACE}div") if each.get("class") == "mediaobject"]
        for medium in media:
            legend = _text(medium.find(f".//{NAMESPACE}div[@class='caption']"))
            image = medium.find(f".//{NAMESPACE}img")
            if image is not None and (title or legend):
                yield Figure(
                    file=file,
                    page=re.sub(r"^[A-Z0-9.]+\. ", "", page),
                    picture=posixpath.normpath(posixpath.join(posixpath.dirname(file), image.get("src", ""))),
                    title=title or legend,
                    legend=legend,
                    alone=len(media) == 1,
                )


def _text(element: ElementTree.Element | None) -> str:
    return " ".join("".join(element.itertext()).split()) if element is not None else ""


def _ask(figure: Figure, seed: int) -> Iterator[Turn]:
    """The title; the legend in a turn of its own, or behind the title where several pictures share that."""
    title, legend = figure.title.rstrip("."), figure.legend
    question = pick(WORDINGS["title"], seed, "title", figure.picture)
    if legend and not figure.alone and legend != figure.title:
        yield Turn(question, f"{title}: {legend}")
        return
    yield Turn(question, title)
    if legend and legend != figure.title:
        yield Turn(pick(WORDINGS["legend"], seed, "legend", figure.picture), legend)


def load(payload: dict[str, Any]) -> bytes:
    """The picture as the package holds it."""
    content = payload["picture"]
    assert isinstance(content, bytes)
    return content


READER = Reader(
    plan,
    load=load,
    options={"max_chars": int, "unseen_pages": Share, "validation": Share},
)
