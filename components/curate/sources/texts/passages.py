"""Texts of packages: documents with questions that their own words answer, and their running text.

Known are WordNet (`wordnet-base`), the collections of `fortunes`, manuals in Mallard (`gnome-user-docs`), the
help of LibreOffice (`libreoffice-help-en-us`) and the conversations of `chatterbot-corpus`; which it is shows
in where the files lie.
"""

from __future__ import annotations

import html
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from components.curate.archives import members
from components.curate.sources.texts import wordnet
from components.curate.sources.texts.documents import Document, Exchange, flatten, resolve_overstrikes
from components.errors import SourceError

MALLARD = "{http://projectmallard.org/1.0/}"
ATTRIBUTION = re.compile(r"^(.*\S)\s*\n\s*-- ([^\n]{3,60})$", re.DOTALL)
"""A quotation with its author beneath."""
RIDDLE = re.compile(r"^Q:\s+((?:(?!\n[QA]:).)+)\nA:\s+((?:(?!\n[QA]:).)+)$", re.DOTALL)
HEADING = re.compile(r"<h1\b[^>]*>(.*?)</h1>", re.DOTALL)
PARAGRAPH = re.compile(r'<p [^>]*class="paragraph"[^>]*>(.*?)</p>', re.DOTALL)
TAG = re.compile(r"<[^>]*>")
SWITCH = "switchinline"
"""Marks text that stands there once per operating system."""


@dataclass(frozen=True)
class Format:
    """One package's way of holding texts."""

    name: str
    belongs: re.Pattern[str]
    """Paths of its files."""
    read: Callable[[str, bytes], Iterator[Document]]
    """Name and content of one file → its documents."""
    held_out: str = "unseen_documents"
    """Test group of what is asked."""
    held_out_words: str = "unseen_documents"
    """Test group of what is drawn."""
    wordings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Kind of exchange → its questions; `{}` is what the exchange is about."""


def find_format(package: Path) -> tuple[Format, dict[str, bytes]]:
    """The format of a package and its files by name.

    Raises:
        SourceError: none that is known.
    """
    files = dict(members(package))
    for each in FORMATS:
        own = {name: content for name, content in sorted(files.items()) if each.belongs.search(name)}
        if own:
            return each, own
    raise SourceError(
        "no texts of a known format in it",
        where=str(package),
        fix=f"formats: {', '.join(each.name for each in FORMATS)}",
    )


def _read_fortunes(name: str, content: bytes) -> Iterator[Document]:
    """A collection: its quotations with their authors, its riddles, and the text of all."""
    exchanges, texts = [], []
    for entry in content.decode("utf-8", "replace").split("\n%\n"):
        entry = resolve_overstrikes(entry.strip())
        if "\\" in entry:  # a drawing
            continue
        quoted, riddle = ATTRIBUTION.match(entry), RIDDLE.match(entry)
        if quoted:
            said, source = flatten(quoted.group(1)), flatten(quoted.group(2))
            # After the name often comes a work or an office: `Kirk, "The Ultimate Computer"`.
            author = re.split(r'[,"(]', source)[0].strip()
            exchanges.append(Exchange("author", f"{said} -- {source}", author))
        elif riddle:
            exchanges.append(Exchange("riddle", flatten(riddle.group(1)), flatten(riddle.group(2))))
        texts.append(flatten(quoted.group(1) if quoted else entry))
    yield Document(name.rpartition("/")[2], tuple(exchanges), tuple(texts))


def _read_mallard(name: str, content: bytes) -> Iterator[Document]:
    """A page of a manual: its description, its opening, and its sections by their titles."""
    try:
        page = ElementTree.fromstring(content)
    except ElementTree.ParseError:
        return
    title = _text(page.find(f"{MALLARD}title"))
    about, opening = _text(page.find(f"{MALLARD}info/{MALLARD}desc")), _text(page.find(f"{MALLARD}p"))
    exchanges = [Exchange("about", title, about), Exchange("opening", title, opening)]
    for section in page.iter(f"{MALLARD}section"):
        own = _text(section.find(f"{MALLARD}title"))
        exchanges.append(Exchange("opening", f"{title}: {own}", _text(section.find(f"{MALLARD}p"))))
    texts = tuple(_text(each) for each in page.iter(f"{MALLARD}p"))
    yield Document(name.partition("/C/")[2].removesuffix(".page"), tuple(exchanges), texts)


def _text(element: ElementTree.Element | None) -> str:
    return flatten("".join(element.itertext())) if element is not None else ""


def _read_help(name: str, content: bytes) -> Iterator[Document]:
    """A page of LibreOffice's help: its heading and its paragraphs."""
    page = content.decode("utf-8", "replace")
    heading = HEADING.search(page)
    paragraphs = [each for each in PARAGRAPH.findall(page) if SWITCH not in each]
    texts = tuple(flatten(html.unescape(TAG.sub("", each))) for each in paragraphs)
    title = flatten(html.unescape(TAG.sub("", heading.group(1)))) if heading else ""
    exchanges = (Exchange("opening", title, texts[0]),) if title and texts else ()
    yield Document(name.partition("/text/")[2].removesuffix(".html"), exchanges, texts)


def _read_conversations(name: str, content: bytes) -> Iterator[Document]:
    """A file of conversations: what is said first, and the first answer to it."""
    try:
        conversations = yaml.safe_load(content)["conversations"]
    except (yaml.YAMLError, KeyError, TypeError):
        return
    spoken = [[flatten(str(line)) for line in each] for each in conversations if isinstance(each, list)]
    answers = {each[0]: each[1] for each in reversed(spoken) if len(each) > 1}
    exchanges = tuple(Exchange("said", question, answer) for question, answer in reversed(answers.items()))
    texts = tuple(dict.fromkeys(line for each in spoken for line in each))
    yield Document(name.rpartition("/")[2].removesuffix(".yml"), exchanges, texts)


MANUAL = {
    "about": (
        "What is the help page “{}” about?",
        "Summarize the page “{}” in one sentence.",
        "What does one find under “{}”?",
    ),
    "opening": ("What does the manual say about “{}”?", "Explain “{}”.", "Tell me about “{}”."),
}
FORMATS = (
    Format(
        "WordNet",
        re.compile(r"^usr/share/wordnet/data\.noun$"),
        wordnet.read_nouns,
        held_out="unseen_topics",
        held_out_words="unseen_words",
        wordings=wordnet.WORDINGS,
    ),
    Format(
        "fortunes",
        re.compile(r"^usr/share/games/fortunes/[a-z-]+$"),
        _read_fortunes,
        wordings={
            "author": ("Who is quoted here? {}", "Name the author: {}", "{} Who said this?"),
            "riddle": ("{}",),
        },
    ),
    Format("Mallard", re.compile(r"^usr/share/help/C/.*\.page$"), _read_mallard, wordings=MANUAL),
    Format(
        "LibreOffice's help",
        re.compile(r"^usr/share/libreoffice/help/en-US/text/.*\.html$"),
        _read_help,
        wordings=MANUAL,
    ),
    Format(
        "chatterbot-corpus",
        re.compile(r"^chatterbot_corpus/data/english/\w+\.yml$"),
        _read_conversations,
        wordings={"said": ("{}",)},
    ),
)
