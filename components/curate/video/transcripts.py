"""What is said in a clip: subtitles and transcripts that lie beside it, in the formats that they come in.

srt, vtt     subtitles with times
ttml, dfxp   subtitles in XML; also those inside a page of Mallard (GNOME's manuals), `captions_of_page`
json         Whisper's `segments`, FineVideo's `timecoded_text_to_speech`, or a list of such cues
txt          words without times
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from components.config.tars import TarLimits
from components.curate.samples import Reason
from components.curate.tars import parse_json

MAX_BYTES = 4 << 20
FORMATS = ("srt", "vtt", "ttml", "dfxp", "json", "txt")
"""Suffixes, the one with times first."""
CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
WORD = re.compile(r"[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+(?:['’][^\W\d]+)*")
ARROW = re.compile(r"^\s*([\d:.,]{4,15})\s+-->\s+([\d:.,]{4,15})", re.MULTILINE)
TAG = re.compile(r"<[^<>]{0,200}>|\{\\[^{}]{0,80}\}")
"""Marks of subtitles: speakers, colours, karaoke times, positions."""
OFFSET = re.compile(r"([\d.]+)(h|ms|m|s)")
UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
CUE_LISTS = ("segments", "cues", "timecoded_text_to_speech", "transcript", "subtitles", "captions")
MEDIA = re.compile(r"<media\b[^<>]*\btype=\"video\"[^<>]*>.*?</media>", re.DOTALL)
SOURCE = re.compile(r"\bsrc=\"([^\"<>]+)\"")
PREFIX = re.compile(r"(</?|\s)[\w-]+:(?=[\w-]+[\s=>/])")


@dataclass(frozen=True)
class Cue:
    """What is said from `start_s` to `end_s`."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True)
class Transcript:
    cues: tuple[Cue, ...]
    """In order of time; empty where there are no times."""
    text: str

    @property
    def num_words(self) -> int:
        """Words; of scripts without spaces, two characters count as one."""
        return len(WORD.findall(self.text)) + math.ceil(len(CJK.findall(self.text)) / 2)

    def around(self, at_s: float, reach_s: float = 0.0) -> str:
        """What is said at a time, and up to `reach_s` before and after it."""
        near = (cue.text for cue in self.cues if cue.start_s - reach_s <= at_s < cue.end_s + reach_s)
        return " ".join(dict.fromkeys(near))


def read_transcript(content: bytes, suffix: str) -> Transcript | Reason:
    """
    Reason codes: `bad_transcript`.

    Args:
        suffix: One of `FORMATS`.
    """
    if len(content) > MAX_BYTES:
        return Reason("bad_transcript", evidence=f"{len(content)} bytes")
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        return Reason("bad_transcript", evidence=f"not UTF-8 at byte {error.start}")
    try:
        if suffix == "json":
            return _from_json(content)
        if suffix in ("srt", "vtt"):
            return _of(_subtitles(text))
        if suffix in ("ttml", "dfxp"):
            return _of(_ttml(text))
    except (ValueError, ElementTree.ParseError) as error:
        return Reason("bad_transcript", evidence=str(error)[:200])
    return Transcript((), " ".join(text.split()))


def captions_of_page(page: str) -> dict[str, Transcript]:
    """The subtitles that a Mallard page carries for its clips, by the clip's path as the page gives it."""
    found = {}
    for media in MEDIA.findall(page):
        source = SOURCE.search(media)
        try:
            cues = _ttml(media) if source else []
        except (ValueError, ElementTree.ParseError):
            continue  # a page is prose for people: what is no subtitle in it is none
        if source and cues:
            found[source.group(1)] = _of(cues)
    return found


def _of(cues: Iterable[Cue]) -> Transcript:
    ordered = tuple(sorted((cue for cue in cues if cue.text), key=lambda cue: (cue.start_s, cue.end_s)))
    return Transcript(ordered, " ".join(cue.text for cue in ordered))


def _subtitles(text: str) -> list[Cue]:
    """SubRip and WebVTT: a line with an arrow, then lines of text up to an empty one."""
    cues = []
    for match in ARROW.finditer(text):
        body = text[text.find("\n", match.end()) + 1 :] if "\n" in text[match.end() :] else ""
        said = body[: end.start()] if (end := re.search(r"\n\s*\n|\Z", body)) else body
        cues.append(_cue(match.group(1), match.group(2), TAG.sub("", said)))
    if not cues:
        raise ValueError("no subtitle in it")
    return cues


def _ttml(text: str) -> list[Cue]:
    """Elements with a beginning and an end; prefixes are dropped, for a part of a document declares none."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("declares entities")
    root = ElementTree.fromstring(PREFIX.sub(r"\1", text))
    return [
        _cue(element.get("begin", ""), element.get("end", ""), "".join(element.itertext()))
        for element in root.iter()
        if element.get("begin") and element.get("end")
    ]


def _from_json(content: bytes) -> Transcript:
    listed = content.lstrip().removeprefix(b"\xef\xbb\xbf").startswith(b"[")
    parsed = parse_json(
        b'{"cues":' + content + b"}" if listed else content, TarLimits(max_json_bytes=MAX_BYTES)
    )
    if isinstance(parsed, Reason):
        raise ValueError(f"{parsed.code}: {parsed.evidence}")
    for name in CUE_LISTS:
        value = parsed.get(name)
        if isinstance(value, list) and value:
            return _of(_cue_of(each) for each in value)
        if isinstance(value, str):
            return Transcript((), " ".join(value.split()))
    text = parsed.get("text", "")
    return Transcript((), " ".join(str(text).split()))


def _cue_of(value: Any) -> Cue:
    if not isinstance(value, dict) or "start" not in value or "text" not in value:
        raise ValueError(f"no cue: {str(value)[:80]}")
    start = value["start"]
    end = value["end"] if "end" in value else _seconds(start) + _seconds(value.get("duration", 0))
    return _cue(start, end, str(value["text"]))


def _cue(start: Any, end: Any, text: str) -> Cue:
    cue = Cue(_seconds(start), _seconds(end), " ".join(text.split()))
    if not 0 <= cue.start_s <= cue.end_s:
        raise ValueError(f"a cue from {cue.start_s} to {cue.end_s} s")
    return cue


def _seconds(value: Any) -> float:
    """Seconds as a number, `1:02:03.5`, `02:03,5`, or TTML's `3.5s` and `200ms`."""
    if isinstance(value, int | float):
        return float(value)
    text = str(value).strip().replace(",", ".")
    offset = OFFSET.fullmatch(text)
    if offset:
        return float(offset.group(1)) * UNITS[offset.group(2)]
    total = 0.0
    for part in text.split(":"):
        total = total * 60 + float(part)
    if not math.isfinite(total):
        raise ValueError(f"no time: {text[:40]}")
    return total
