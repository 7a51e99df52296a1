"""Texts of packages, asked as they are (samples without an image) or drawn to be read (`draw = true`).

Asked: questions that the documents answer with their own words; whole documents are held out. Drawn: pieces
of the documents' text, or words of WordNet, each in one of the fonts that Python packages carry. A piece
that is held out is drawn nowhere in training, and half of the test is drawn in font families that training
never uses (`unseen_fonts`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from components.config import CurateConfig, SourceConfig
from components.curate.samples import Draft, Split, Turn, share
from components.curate.sources.planning import divide, names, option, pick
from components.curate.sources.reader import Reader, Share
from components.curate.sources.texts.documents import Document, Exchange, cut, drawable
from components.curate.sources.texts.lettering import FAMILIES, draw_text
from components.curate.sources.texts.passages import Format, find_format
from components.errors import ConfigError

ASKED_CHARS, DRAWN_CHARS = 400, 40
"""Characters of question and answer, and of a drawn piece, unless `max_chars` says otherwise."""
UNSEEN_FONTS = ("STIX",)
INKS = (
    ((20, 20, 20), (255, 255, 255)),
    ((20, 20, 20), (245, 238, 215)),
    ((25, 40, 110), (255, 255, 255)),
    ((120, 20, 20), (250, 240, 240)),
    ((245, 245, 245), (30, 30, 40)),
    ((255, 235, 120), (20, 50, 90)),
)
"""Ink and paper."""
LARGEST = (0.28, 0.36, 0.45)
"""Type at most, as a share of the side: small words are not always large."""
READ = ("Read the text.", "What is written here?", "What does it say?", "Transcribe the text.")
HELD_OUT: tuple[Split, ...] = ("test", "validation", "train")
"""A piece that several documents have belongs to the first of these that one of them is in."""


def plan(archives: Mapping[str, Path], source: SourceConfig, config: CurateConfig) -> list[Draft]:
    """Every exchange, or with `draw` every piece, that is short enough.

    Raises:
        ConfigError: `options.unseen_fonts` names a family that is not known, or all of them.
        SourceError: the package holds no texts of a known format.
    """
    form, files = find_format(archives["data"])
    documents = [each for name, content in files.items() for each in form.read(name, content)]
    planned = _drawn if option(source, "draw", False) else _asked
    return list(planned(documents, form, source, config.seed))


def _divide(units: Iterable[str], source: SourceConfig, seed: int) -> dict[str, Split]:
    """What is held out as a whole → its split."""
    unseen, validation = option(source, "unseen_documents", 0.1), option(source, "validation", 0.05)
    return divide(seed, "document", units, unseen=unseen, validation=validation)


def _asked(documents: Sequence[Document], form: Format, source: SourceConfig, seed: int) -> Iterator[Draft]:
    most = option(source, "max_chars", ASKED_CHARS)
    splits = _divide((each.name for each in documents), source, seed)
    for document in documents:
        for number, exchange in enumerate(document.exchanges):
            key = f"{document.name}/{number}"
            turn = _ask(exchange, form, seed, key)
            if turn is not None and len(turn.question) + len(turn.answer) <= most:
                split = splits[document.name]
                yield Draft(
                    original_id=key,
                    split=split,
                    group=form.held_out if split == "test" else "",
                    turns=(turn,),
                    payload={},
                    label=document.name,
                    facts={"document": document.name, "answer": exchange.answer, **dict(exchange.facts)},
                )


def _ask(exchange: Exchange, form: Format, seed: int, key: str) -> Turn | None:
    if not exchange.about or not exchange.answer or exchange.answer.endswith(":"):
        return None  # nothing to say, or a list that is not there
    wording = pick(form.wordings[exchange.kind], seed, exchange.kind, key)
    return Turn(wording.replace("{}", exchange.about), exchange.answer)


def _drawn(documents: Sequence[Document], form: Format, source: SourceConfig, seed: int) -> Iterator[Draft]:
    unseen_fonts = _unseen_fonts(source)
    found = [(piece, each.name) for each in documents for piece in _pieces(each, source)]
    unit = 0 if form.held_out_words == "unseen_words" else 1
    splits = _divide((each[unit] for each in found), source, seed)
    pieces: dict[str, tuple[Split, str]] = {}
    for each in found:
        piece, name = each
        split = splits[each[unit]]
        if piece not in pieces or HELD_OUT.index(split) < HELD_OUT.index(pieces[piece][0]):
            pieces[piece] = (split, name)
    for number, (piece, (split, name)) in enumerate(pieces.items()):
        new_font = split == "test" and share(seed, "font is new", piece) < 0.5
        families = [each for each in FAMILIES if (each in unseen_fonts) == new_font]
        family = pick(families, seed, "family", piece)
        ink, paper = pick(INKS, seed, "ink", piece)
        yield Draft(
            original_id=f"{name}/{number}",
            split=split,
            group=("unseen_fonts" if new_font else form.held_out_words) if split == "test" else "",
            turns=(Turn(pick(READ, seed, "read", piece), piece),),
            payload={
                "text": piece,
                "font": pick(FAMILIES[family], seed, "style", piece),
                "largest": pick(LARGEST, seed, "largest", piece),
                "slack": (share(seed, "right", piece), share(seed, "down", piece)),
                "ink": ink,
                "paper": paper,
            },
            label=family,
            facts={"document": name, "text": piece, "font": family},
        )


def _unseen_fonts(source: SourceConfig) -> tuple[str, ...]:
    unseen = names(source, "unseen_fonts") or UNSEEN_FONTS
    if not set(unseen) < set(FAMILIES):
        raise ConfigError(
            f"fonts cannot be held out like this: {', '.join(unseen)}",
            where=f"curate.sources, {source.locator}, options.unseen_fonts",
            fix=f"name some, not all, of {', '.join(FAMILIES)}",
        )
    return unseen


def _pieces(document: Document, source: SourceConfig) -> Iterator[str]:
    least, most = option(source, "min_chars", 3), option(source, "max_chars", DRAWN_CHARS)
    for text in document.texts:
        yield from (piece for piece in cut(text, least=least, most=most) if drawable(piece))


def render(payload: dict[str, Any], size: int) -> Image.Image:
    """The text in its font.

    Raises:
        ValueError: it does not fit in a type that can be read.
    """
    return draw_text(
        payload["text"],
        payload["font"],
        size=size,
        largest=payload["largest"],
        slack=payload["slack"],
        ink=payload["ink"],
        paper=payload["paper"],
    )


READER = Reader(
    plan,
    render,
    options={
        "draw": bool,
        "min_chars": int,
        "max_chars": int,
        "unseen_documents": Share,
        "unseen_fonts": list,
        "validation": Share,
    },
)
