"""Duplicates and leaks over what is left of the funnel, and what evaluation sets hold."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pyarrow as pa

from components.config.duplicates import NearDuplicateConfig
from components.curate.duplicates import (
    SCHEMA,
    EvaluationSet,
    Signatures,
    deduplicate,
    find_leaks,
    read_evaluation_sets,
)
from components.curate.funnel import Funnel
from components.curate.samples import Candidate, Reason

STEPS = {
    "exact_duplicate": ("exact_duplicate",),
    "near_duplicate": ("near_duplicate",),
    "decontamination": ("in_test", "in_validation", "in_evaluation"),
}
"""Step of the funnel → the reason codes that it shows."""


def drop_duplicates(funnel: Funnel, config: NearDuplicateConfig) -> None:
    """Exact and near duplicates within each split, and leaks between splits and from evaluation sets.

    Of two in a split the one with more pixels stays, then the one of more bytes, then the first.
    """
    found: dict[str, Reason] = {}

    def search(items: Sequence[Candidate]) -> dict[int, Reason]:
        best_first = sorted(items, key=_size, reverse=True)
        signatures = Signatures.of(signature_table(best_first), same_text_only=config.same_text_only)
        verdicts = deduplicate(signatures, config, _evaluation_sets(config))
        columns = (verdicts.rows.tolist(), verdicts.codes, verdicts.others, verdicts.evidence)
        for row, code, other, evidence in zip(*columns, strict=True):
            found[best_first[row].key] = Reason(str(code), str(other), str(evidence))
        return _of_codes(items, found=found, codes=STEPS["exact_duplicate"])

    funnel.apply("exact_duplicate", search)  # the whole search is timed here
    for name in ("near_duplicate", "decontamination"):
        funnel.apply(name, partial(_of_codes, found=found, codes=STEPS[name]))


def _size(candidate: Candidate) -> tuple[int, int]:
    """Pixels and bytes of the source's picture; of a drawn one nothing: it has any size."""
    header = candidate.header
    return (header.width * header.height, header.num_bytes) if header else (0, 0)


def leaked_keys(candidates: Sequence[Candidate], config: NearDuplicateConfig) -> frozenset[str]:
    """Keys of what would leak, searched for anew in what was kept: what the gate asks."""
    signatures = Signatures.of(signature_table(candidates), same_text_only=config.same_text_only)
    verdicts = find_leaks(signatures, config, _evaluation_sets(config))
    return frozenset(candidates[row].key for row in verdicts.rows.tolist())


def signature_table(candidates: Sequence[Candidate]) -> pa.Table:
    """What duplicates are told by, one row a sample; the table that an evaluation set is written from."""
    pictures = [each.picture for each in candidates]
    answers = ["\n".join(turn.answer for turn in each.turns) for each in candidates]
    columns = {
        "key": [each.key for each in candidates],
        "split": [each.split for each in candidates],
        "category": [each.category for each in candidates],
        "pixels_sha256": [each.image_sha256 for each in candidates],
        "text_sha256": [each.text_sha256 for each in candidates],
        "text": [each.encode("utf-8", "replace").decode() for each in answers],
        "thumbnail": [each.thumbnail if each else None for each in pictures],
    }
    return pa.table(columns, schema=SCHEMA)


def _evaluation_sets(config: NearDuplicateConfig) -> tuple[EvaluationSet, ...]:
    return read_evaluation_sets(config.evaluation_sets, same_text_only=config.same_text_only)


def _of_codes(
    items: Sequence[Candidate], *, found: dict[str, Reason], codes: Sequence[str]
) -> dict[int, Reason]:
    return {
        place: found[each.key]
        for place, each in enumerate(items)
        if each.key in found and found[each.key].code in codes
    }
