"""When is an answer right: one exact-match rule, shared by evaluation, preference making and the canary.

The rule is VQA's usual one, kept small: case, punctuation, articles and spacing never decide. Digits
do: "7" and "seven" differ, and so do "1.5" and "15".
"""

from __future__ import annotations

import re
import unicodedata

_ARTICLES = frozenset({"a", "an", "the"})
# A point, comma or minus inside a number belongs to it ("1.5", "-3"); everywhere else punctuation is noise.
_TOKEN = re.compile(r"[-−]?\d+(?:[.,]\d+)*|[^\W\d_]+")


def normalise(text: str) -> str:
    """Lower-case words and numbers of `text`, without articles and punctuation, one space between them.

    A text that is nothing but an article ("A", a chart's label) keeps it. Thousands separators go
    ("1,200" → "1200"); a run of digits read one by one stays one number.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    tokens = [_number(token) for token in _TOKEN.findall(folded)]
    kept = [token for token in tokens if token not in _ARTICLES]
    return " ".join(kept or tokens)


def is_correct(prediction: str, answer: str) -> bool:
    """Whether `prediction` says the same as the ground truth `answer`; never for an empty answer."""
    wanted = normalise(answer)
    return bool(wanted) and normalise(prediction) == wanted


def _number(token: str) -> str:
    if re.fullmatch(r"[-−]?\d{1,3}(?:,\d{3})+(?:\.\d+)?", token):
        token = token.replace(",", "")
    return token.replace("−", "-")
