"""Copies of the very same file, found before anything is decoded."""

from __future__ import annotations

from collections.abc import Sequence

from components.curate.funnel import Verdicts
from components.curate.samples import Candidate, Reason


def find_exact_copies(candidates: Sequence[Candidate]) -> Verdicts:
    """The same encoded picture with the same text a second time in the same split; the first one stays.

    Samples whose picture is drawn from data, or who have none, are compared when the pixels are known.
    """
    first: dict[tuple[str, str, str], str] = {}
    verdicts: Verdicts = {}
    for position, candidate in enumerate(candidates):
        if candidate.header is None:
            continue
        identity = (candidate.split, candidate.header.sha256, candidate.text_sha256)
        kept = first.setdefault(identity, candidate.key)
        if kept != candidate.key:
            verdicts[position] = Reason("exact_duplicate", kept)
    return verdicts
