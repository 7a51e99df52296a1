"""Which kind of question a turn asks, told by a reader's own wordings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from components.curate.samples import Draft


def asked(
    draft: Draft, wordings: Mapping[str, tuple[str, ...]]
) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Kind, what the question names, and the answer, for every turn."""
    for turn in draft.turns:
        hits = [
            (len(wording), kind, hit.groups())
            for kind, each in wordings.items()
            for wording in each
            if (hit := re.fullmatch(_pattern(wording), turn.question))
        ]
        assert hits, f"no wording asks: {turn.question}"
        _, kind, named = max(hits)
        yield kind, named, turn.answer


def _pattern(wording: str) -> str:
    return re.sub(r"\\\{\d?\\\}", "(.+)", re.escape(wording))
