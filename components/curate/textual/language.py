"""Which language a text is in: py3langid's naive Bayes over byte n-grams, with normalized probabilities.

On short texts it guesses: of 40 to 60 characters of English 1% and of 60 to 100 still 0.3% are taken for
another language, hence a minimum length and a confidence.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import Any

MIN_BEST = 0.5
"""Probability of the likeliest language; where it is lower, none is likely, and it is a list or a formula."""


MAX_JUDGED = 2000
"""Characters that are looked at: more of them change nothing, and each costs a microsecond."""


@lru_cache(maxsize=1)
def _identifier() -> Any:
    """The packaged model; 0.8 s to load, so only where a source names languages."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def known_languages() -> frozenset[str]:
    """ISO 639-1 codes that can be asked for."""
    return frozenset(_identifier().labels)


def find_other_language(text: str, wanted: Collection[str], *, confidence: float) -> str:
    """The language of a text that is in none of the `wanted` ones, as far as `confidence` asks for.

    What counts is how improbable all wanted languages are together: Danish is not refused for being taken
    for Norwegian where both are wanted.
    """
    head = text[:MAX_JUDGED]
    best, probability = _identifier().classify(head)
    if best in wanted or probability < MIN_BEST:
        return ""
    ranked: list[tuple[str, float]] = _identifier().rank(head)
    other = 1.0 - sum(share for language, share in ranked if language in wanted)
    return f"{best} {probability:.2f}" if other >= confidence else ""
