"""Swear words and slurs: the strong entries of better-profanity's list, found as whole words.

The packaged list cannot be taken whole: half of it are words of everyday (`god`, `pot`, `stroke`, `rum`,
`seaman`), which would reject 7.8% of Debian's fortunes and 3.2% of WordNet's glosses. Kept are the entries
around a root that has no other meaning. The library's own matcher compares every word with every entry
(36 fortunes a second); a set does the same after digits and signs that stand for letters are put back.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache
from importlib.resources import files
from itertools import pairwise

ROOTS = re.compile(
    r"fuck|fuk|fcuk|fvck|fxck|phuk|phuq|shit|cunt|nigg|n1g|fag(?:g|s|ot)|bitch|cocksuck|cockmunch|whore|slut"
    r"|twat|wank|jizz|jism|cumshot|asshole|arsehole|assmunch|dumbass|blow ?job|hand ?job|rimjob|dildo|porn"
    r"|gang-?bang|bukkake|goatse|felch|masturbat|muffdiv|pussyf|titt(?:y|ie)f|titwank|motherf|mothaf|mutherf"
    r"|dickhead|kikes?$|spic$|gooks?$|wetback|rapist|pedophil"
)
LETTERS = str.maketrans("013457@$", "oieastas")
"""Signs that stand for letters."""
INNER_MARK = re.compile(r"(?<=\w)!(?=\w)")
TOKEN = re.compile(r"[^\W_]+")
SPELLED = re.compile(r"(?<![^\W_])(?:[^\W_][-._*]){2,12}[^\W_](?![^\W_])")
"""Letters with marks between: `f-u-c-k`."""


@lru_cache(maxsize=8)
def _entries(extra: tuple[str, ...], allowed: tuple[str, ...]) -> tuple[frozenset[str], frozenset[str]]:
    """Words, and words of which two in a row are one (`blow job`); lower case, without signs."""
    content = files("better_profanity").joinpath("profanity_wordlist.txt").read_text("utf-8")
    listed = {line.strip().lower() for line in content.splitlines()}
    chosen = {line for line in listed if line and ROOTS.search(line)} | {word.lower() for word in extra}
    chosen -= {word.lower() for word in allowed}
    folded = {" ".join(_tokens(entry)) for entry in chosen}
    return frozenset(folded), frozenset(entry.split()[0] for entry in folded if " " in entry)


def _tokens(text: str) -> list[str]:
    if "!" in text:  # a letter only inside a word: `sh!t`, but not `what a day!`
        text = INNER_MARK.sub("i", text)
    return TOKEN.findall(text.lower().translate(LETTERS))


def find_profanity(text: str, *, extra: Collection[str] = (), allowed: Collection[str] = ()) -> str:
    """The first swear word or slur, as its entry in the list."""
    words, firsts = _entries(tuple(extra), tuple(allowed))
    tokens = _tokens(text)
    found = words.intersection(tokens)
    if found:
        return next(token for token in tokens if token in found)
    if firsts.intersection(tokens):
        pairs = (f"{first} {second}" for first, second in pairwise(tokens))
        pair = next((pair for pair in pairs if pair in words), "")
        if pair:
            return pair
    for match in SPELLED.finditer(text):
        word = "".join(_tokens(match.group()))
        if word in words:
            return word
    return ""
