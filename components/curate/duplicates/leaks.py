"""Deduplication and decontamination of a dataset: what goes, and for which kept sample.

    verdicts = deduplicate(signatures, config, read_evaluation_sets(config.evaluation_sets))
    leaks = find_leaks(signatures, config, evaluation_sets)        # what the gate asks of the result

Splits have a priority: test stays, then validation, then training; inside a split the first of two stays.
What an evaluation set holds goes from training and validation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from components.config.duplicates import NearDuplicateConfig
from components.curate.duplicates.alike import Alike
from components.curate.duplicates.buckets import Rows, mix
from components.curate.duplicates.clusters import keep_first, lowest_partner
from components.curate.duplicates.evaluation_sets import EvaluationSet
from components.curate.duplicates.signatures import SPLITS, Signatures

EXACT, NEAR, EVALUATION = "exact_duplicate", "near_duplicate", "in_evaluation"
"""Reason codes; leaks into the dataset's own splits are `in_test` and `in_validation`."""


@dataclass(frozen=True)
class Verdicts:
    """The samples that go, in ascending order of their rows."""

    rows: Rows
    codes: npt.NDArray[np.str_]
    others: npt.NDArray[np.object_]
    """Key of the kept sample it goes for; `<evaluation set>/<key>` where that is outside."""
    evidence: npt.NDArray[np.object_]
    """What makes the two one sample, for a person to judge."""

    def __len__(self) -> int:
        return len(self.rows)


def deduplicate(
    signatures: Signatures, config: NearDuplicateConfig, evaluation_sets: Sequence[EvaluationSet] = ()
) -> Verdicts:
    """Everything that goes: exact and near duplicates within each split, and leaks between them.

    Whatever goes is like a sample that stays (or that an evaluation set holds), and no two samples that
    stay are alike.
    """
    every, names = _with_evaluation_sets(signatures, evaluation_sets)
    leak, duplicate = Alike(every, config, held_out=True), Alike(every, config, held_out=False)
    goes_for = np.full(len(signatures), -1, np.int64)
    exact = np.zeros(len(signatures), bool)
    kept: dict[str, Rows] = {}
    outside = np.arange(len(signatures), len(every))
    for split in SPLITS:
        rows = signatures.rows_of(split)
        for held_out in () if split == "test" else (outside, *kept.values()):
            rows = _remove_leaks(rows, held_out, leak, goes_for)
        first = _first_equal(signatures, rows)
        exact[rows[first != rows]] = True
        goes_for[rows] = np.where(first != rows, first, -1)
        rows = rows[first == rows]
        partner = keep_first(rows, duplicate)
        goes_for[rows] = np.where(partner != rows, partner, -1)
        kept[split] = rows[partner == rows]
    _follow(goes_for, exact)
    return _verdicts(every, names, goes_for, len(signatures), config)


def find_leaks(
    signatures: Signatures, config: NearDuplicateConfig, evaluation_sets: Sequence[EvaluationSet] = ()
) -> Verdicts:
    """Training and validation samples that test, validation or an evaluation set holds, by the same rules."""
    every, names = _with_evaluation_sets(signatures, evaluation_sets)
    leak = Alike(every, config, held_out=True)
    goes_for = np.full(len(signatures), -1, np.int64)
    outside = np.arange(len(signatures), len(every))
    test, validation, train = (signatures.rows_of(split) for split in SPLITS)
    for rows, against in ((validation, (outside, test)), (train, (outside, test, validation))):
        left = rows
        for held_out in against:
            left = _remove_leaks(left, held_out, leak, goes_for)
    return _verdicts(every, names, goes_for, len(signatures), config)


def _with_evaluation_sets(
    signatures: Signatures, evaluation_sets: Sequence[EvaluationSet]
) -> tuple[Signatures, npt.NDArray[np.str_]]:
    """All samples in one table, and for each the name of its evaluation set (empty: the dataset's own)."""
    parts = [signatures, *(each.signatures for each in evaluation_sets)]
    names = np.repeat(["", *(each.name for each in evaluation_sets)], [len(part) for part in parts])
    every = Signatures.concatenate(parts) if evaluation_sets else signatures  # thumbnails are not copied
    return every, names


def _remove_leaks(rows: Rows, held_out: Rows, leak: Alike, goes_for: Rows) -> Rows:
    """The rows that are left; for the others, `goes_for` says which held-out sample they are."""
    found = lowest_partner(rows, held_out, leak.between)
    goes_for[rows[found >= 0]] = held_out[found[found >= 0]]
    return rows[found < 0]


def _first_equal(signatures: Signatures, rows: Rows) -> Rows:
    """For each row the first one with the same pixels and the same text that the same rules apply to."""
    identity = mix(signatures.identity[rows] ^ signatures.same_text_only[rows])
    _, first, group = np.unique(identity, return_index=True, return_inverse=True)
    equal: Rows = rows[first[group]]
    return equal


def _follow(goes_for: Rows, exact: npt.NDArray[np.bool_]) -> None:
    """An exact duplicate of a sample that goes itself goes for what that one goes for."""
    rows = np.flatnonzero(exact)
    behind = goes_for[goes_for[rows]]
    goes_for[rows[behind >= 0]] = behind[behind >= 0]


def _verdicts(
    every: Signatures, names: npt.NDArray[np.str_], goes_for: Rows, num: int, config: NearDuplicateConfig
) -> Verdicts:
    rows = np.flatnonzero(goes_for >= 0)
    others = goes_for[rows]
    same_split = (every.split[rows] == every.split[others]) & (others < num)
    equal_pixels = every.pixels[rows] == every.pixels[others]
    equal_text = every.text[rows] == every.text[others]
    inside = np.where(equal_pixels & equal_text, EXACT, NEAR)
    across = np.array([f"in_{split}" for split in SPLITS])[every.split[others]]
    codes = np.where(others >= num, EVALUATION, np.where(same_split, inside, across))
    keys = np.array(every.keys.take(pa.array(others)).to_pylist(), dtype=object)
    for place in np.flatnonzero(others >= num):
        keys[place] = f"{names[others[place]]}/{keys[place]}"
    bits = np.bitwise_count(every.hashes[rows] ^ every.hashes[others])
    unseen = bits > max(config.image_distance, config.same_text_distance)
    facts = zip(every.has_picture[rows], equal_pixels, equal_text, unseen, bits, strict=True)
    evidence = np.array([_evidence(*each) for each in facts], dtype=object)
    return Verdicts(rows, codes, keys, evidence)


def _evidence(picture: bool, equal_pixels: bool, equal_text: bool, unseen: bool, bits: int) -> str:
    text = "same text" if equal_text else "another text"
    if not picture:
        return "same text" if equal_text else "nearly the same text"
    if equal_pixels:
        return f"same pixels, {text}"
    return f"mirrored or cropped, {text}" if unseen else f"hashes differ in {bits} of 64 bits, {text}"
