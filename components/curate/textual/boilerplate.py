"""Answers that are no caption of anything: file names, placeholders, notices of web pages."""

from __future__ import annotations

import re
from collections.abc import Collection

FILE_NAME = re.compile(
    r"(?:img|dsc[nf]?|pict|gopr|mvi|scan)[\s_-]?\d{3,}[\w\s()-]{0,20}|screen ?shot[\s_-].{0,20}\d{4}.{0,30}"
    r"|(?:[\w\s(),-]{1,60}\.)(?:jpe?g|png|gif|svgz?|tiff?|bmp|webp|heic)",
    re.IGNORECASE,
)
PLACEHOLDER = re.compile(
    r"untitled(?: ?(?:document|image|drawing)?[\s#_-]{0,2}\d{0,4})?|no (?:description|title|caption|alt text)"
    r"|(?:your |the )?(?:title|caption|description|alt text|text) (?:goes )?here|(?:todo|tbd|fixme)\b.{0,20}"
    r"|(?:image|photo|picture) not (?:found|available)",
    re.IGNORECASE,
)
NOTICES = re.compile(
    r"lorem ipsum dolor|enable javascript|javascript is (?:disabled|required)"
    r"|this (?:site|website) uses cookies|sign up for our newsletter|log in to (?:view|reply)"
    r"|royalty[- ]free (?:image|photo|vector)|stock (?:photo|image|vector)s?\b"
    r"|image may contain:|as an ai (?:language )?model",
    re.IGNORECASE,
)
"""The last is what chat models say when they were asked to annotate and would not."""
MAX_NAME, MIN_NOTICE = 80, 12
"""Characters of a file name at most, of a notice at least."""


def find_boilerplate(answer: str, phrases: Collection[str] = (), *, known: bool = True) -> str:
    """What makes an answer boilerplate (the `known` kinds, and these phrases), or nothing."""
    text = answer.strip()
    found = _known(text) if known else ""
    if found or not phrases:
        return found
    folded = text.casefold()
    return next((phrase for phrase in phrases if phrase.casefold() in folded), "")


def _known(text: str) -> str:
    if len(text) <= MAX_NAME and (FILE_NAME.fullmatch(text) or PLACEHOLDER.fullmatch(text)):
        return text
    match = NOTICES.search(text) if len(text) >= MIN_NOTICE else None
    return match.group() if match else ""
