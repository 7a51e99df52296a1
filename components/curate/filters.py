"""Copies of the very same file, found before anything is decoded."""

from __future__ import annotations

from collections.abc import Sequence

from components.curate.funnel import Verdicts
from components.curate.samples import Candidate, Reason

MAX_EVIDENCE = 200


def find_exact_copies(candidates: Sequence[Candidate]) -> Verdicts:
    """The same encoded picture with the same text a second time in the same split; the first one stays.

    Samples whose picture is drawn from data, or who have none, are compared when the pixels are known.
    """
    first: dict[tuple[str, str, str], Candidate] = {}
    verdicts: Verdicts = {}
    for position, candidate in enumerate(candidates):
        if candidate.header is None:
            continue
        identity = (candidate.split, candidate.header.sha256, candidate.text_sha256)
        kept = first.setdefault(identity, candidate)
        if kept is not candidate:
            evidence = f"the same file and text as {kept.key}: {kept.original_id}"[:MAX_EVIDENCE]
            verdicts[position] = Reason("exact_duplicate", kept.key, evidence)
    return verdicts
