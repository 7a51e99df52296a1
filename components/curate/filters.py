"""The funnel: filters in a row; each keeps or rejects with a reason code, nothing is lost.

Splits are kept apart until decontamination: inside a split the first of two equal samples stays, and
between splits the test sample stays and the training sample goes.

Two images are near duplicates when their perceptual hashes differ by at most `phash_distance` bits AND
their text is the same. The text decides because hashes alone cannot: two digit strings, two bar charts,
or a red and a green circle look alike to a hash of low frequencies and are different samples.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from components.curate.samples import Candidate, Reason

Verdicts: TypeAlias = dict[int, Reason]
"""Position in the list that was filtered → why it is rejected."""
Filter: TypeAlias = Callable[[Sequence[Candidate]], Verdicts]


@dataclass(frozen=True)
class Rejected:
    candidate: Candidate
    reason: Reason


@dataclass(frozen=True)
class Step:
    """What one filter did."""

    name: str
    num_in: int
    num_out: int
    seconds: float
    rejected: dict[str, int]
    """Category → samples rejected."""


@dataclass
class Funnel:
    """What is left after all filters, what was rejected and why, and the count at every filter."""

    kept: list[Candidate]
    rejected: list[Rejected] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    def apply(self, name: str, judge: Filter, *, spent: float = 0.0) -> None:
        """Run one filter; `spent` is what it already cost elsewhere (decoding in worker processes)."""
        begin, before = time.monotonic(), len(self.kept)
        verdicts = judge(self.kept)
        per_category = defaultdict[str, int](int)
        survivors = []
        for position, candidate in enumerate(self.kept):
            if position in verdicts:
                self.rejected.append(Rejected(candidate, verdicts[position]))
                per_category[candidate.category] += 1
            else:
                survivors.append(candidate)
        self.kept = survivors
        seconds = round(spent + time.monotonic() - begin, 3)
        self.steps.append(Step(name, before, len(survivors), seconds, dict(sorted(per_category.items()))))


def run_funnel(
    candidates: Sequence[Candidate],
    *,
    phash_distance: int,
    seconds: float,
    screened: Sequence[Rejected] = (),
    screening_s: float = 0.0,
) -> Funnel:
    """Text (judged before drawing), integrity, exact and near duplicates, decontamination; in this order.

    Args:
        screened: What was rejected for its text and never drawn, in `screening_s` seconds.
        candidates: In a fixed order; earlier ones win.
        phash_distance: Bits of 64 up to which hashes count as near.
        seconds: What the integrity checks cost while rendering.
    """
    refused = {each.candidate.key: each.reason for each in screened}
    funnel = Funnel([*candidates, *(each.candidate for each in screened)])
    funnel.apply("text", lambda items: _refused(items, refused), spent=screening_s)
    funnel.apply("integrity", find_unsound, spent=seconds)
    funnel.apply("exact_duplicate", find_exact_duplicates)
    funnel.apply("near_duplicate", lambda items: find_near_duplicates(items, phash_distance))
    funnel.apply("decontamination", lambda items: find_leaks(items, phash_distance))
    return funnel


def _refused(candidates: Sequence[Candidate], reasons: dict[str, Reason]) -> Verdicts:
    return {place: reasons[each.key] for place, each in enumerate(candidates) if each.key in reasons}


def find_unsound(candidates: Sequence[Candidate]) -> Verdicts:
    """Samples that did not decode, have the wrong size, show nothing, or say nothing."""
    verdicts: Verdicts = {}
    for position, candidate in enumerate(candidates):
        if candidate.problem:
            verdicts[position] = Reason(candidate.problem, evidence=candidate.detail)
        elif not candidate.turns or not all(t.question.strip() and t.answer.strip() for t in candidate.turns):
            verdicts[position] = Reason("empty_text")
    return verdicts


def find_exact_duplicates(candidates: Sequence[Candidate]) -> Verdicts:
    """The same pixels and the same text a second time in the same split."""
    first: dict[tuple[str, str, str], str] = {}
    verdicts: Verdicts = {}
    for position, candidate in enumerate(candidates):
        identity = (candidate.split, candidate.image_sha256, candidate.text_sha256)
        kept = first.setdefault(identity, candidate.key)
        if kept != candidate.key:
            verdicts[position] = Reason("exact_duplicate", kept)
    return verdicts


def find_near_duplicates(candidates: Sequence[Candidate], distance: int) -> Verdicts:
    """The same text with a perceptually near image a second time in the same split."""
    kept: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    verdicts: Verdicts = {}
    for position, candidate in enumerate(candidates):
        bucket = kept[candidate.split, candidate.text_sha256]
        bits = int(candidate.phash, 16)
        near = _nearest(bits, bucket, distance)
        if near:
            verdicts[position] = Reason("near_duplicate", near)
        else:
            bucket.append((bits, candidate.key))
    return verdicts


def find_leaks(candidates: Sequence[Candidate], distance: int) -> Verdicts:
    """Training samples that test or validation holds too, and validation samples that test holds.

    A sample leaks when its very image is held out, whatever the question, or a near image with the same
    text.
    """
    verdicts: Verdicts = {}
    for held_out, judged in (("test", ("train", "validation")), ("validation", ("train",))):
        images: dict[str, str] = {}
        texts: dict[str, list[tuple[int, str]]] = defaultdict(list)
        for position, candidate in enumerate(candidates):
            if candidate.split == held_out and position not in verdicts:
                images.setdefault(candidate.image_sha256, candidate.key)
                texts[candidate.text_sha256].append((int(candidate.phash, 16), candidate.key))
        for position, candidate in enumerate(candidates):
            if candidate.split not in judged or position in verdicts:
                continue
            other = images.get(candidate.image_sha256) or _nearest(
                int(candidate.phash, 16), texts.get(candidate.text_sha256, ()), distance
            )
            if other:
                verdicts[position] = Reason(f"in_{held_out}", other)
    return verdicts


def _nearest(bits: int, hashes: Iterable[tuple[int, str]], distance: int) -> str:
    """Key of the first hash within `distance` bits, or nothing."""
    return next((key for other, key in hashes if (bits ^ other).bit_count() <= distance), "")
