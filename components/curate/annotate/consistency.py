"""Self-consistency: the same question asked several times on its own; answers that vary are guesses.

The share of the draws that agree with the answer decides (Wang et al. 2022 take the majority; a share can
be required). Agreement is equality after normalisation, or closeness in a sentence embedding. Embeddings
alone would call `15` and `16`, `yes` and `no`, `left` and `right` the same, so numbers, negations and
opposites must be equal besides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeAlias

from components.answers import normalise
from components.config.annotate import ConsistencyConfig
from components.curate.annotate.quantities import find_quantities, without_quantities
from components.curate.samples import Reason
from components.curate.scorers.text_embeddings import embed_texts

Same: TypeAlias = Callable[[str, str], bool]
NEGATIONS = re.compile(
    r"\b(?:no|not|never|none|nobody|nothing|without|neither|nor)\b|n['’]t\b", re.IGNORECASE
)
DECISIVE = frozenset(
    re.findall(
        r"\w+",
        "yes no true false left right up down top bottom above below first last before after more less open "
        "closed on off male female man woman red orange yellow green blue purple pink brown black white gray "
        "grey north south east west",
    )
)
"""Words that an embedding takes for near neighbours and that make another answer."""


def consistency_problem(
    answer: str, draws: Sequence[str | None], config: ConsistencyConfig, same: Same
) -> Reason | None:
    """Whether enough of the independent `draws` say what `answer` says; a draw that failed is None.

    Gives `inconsistent` with what was said instead, or None.
    """
    agreeing = sum(draw is not None and same(answer, draw) for draw in draws)
    if draws and agreeing >= config.min_agreement * len(draws) - 1e-9:
        return None
    others = sorted({draw for draw in draws if draw is not None and not same(answer, draw)})
    said = f"; said instead: {' | '.join(others)}" if others else ""
    return Reason("inconsistent", evidence=f"{agreeing} of {len(draws)} agree{said}"[:200])


def same_text(one: str, other: str) -> bool:
    """Equal after normalisation (case, punctuation, articles, number words and thousands separators)."""
    return bool(normalise(one)) and _canonical(one) == _canonical(other)


def same_meaning(texts: Sequence[str], min_similarity: float, *, threads: int) -> Same:
    """Agreement by the packaged MiniLM.

    Args:
        texts: Every answer that is compared.
        min_similarity: Cosine from which two answers are the same.
    """
    vectors = dict(zip(texts, embed_texts(texts, threads=threads), strict=True))

    def same(one: str, other: str) -> bool:
        if same_text(one, other):
            return True
        if not normalise(one) or not normalise(other) or _decisive(one) != _decisive(other):
            return False
        return float(vectors[one] @ vectors[other]) >= min_similarity

    return same


def _canonical(text: str) -> tuple[str, tuple[str, ...]]:
    """A text with its numbers apart, so that `three` is `3` and `1,200` is `1200`."""
    numbers = tuple(
        f"{(number.value * number.factor).normalize()} {number.dimension}" for number in find_quantities(text)
    )
    if not numbers:
        return normalise(text), ()
    return normalise(without_quantities(text)), numbers


def _decisive(text: str) -> tuple[object, ...]:
    words = frozenset(normalise(text).split()) & DECISIVE
    numbers = tuple(sorted(number.value for number in find_quantities(text)))
    return words, numbers, len(NEGATIONS.findall(text)) % 2
