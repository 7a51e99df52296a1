"""Filters over all samples at once: duplicates inside a split, and leaks between splits.

Splits are kept apart until decontamination: inside a split the first of two equal samples stays, and
between splits the test sample stays and the training sample goes.

Two images are near duplicates when their perceptual hashes differ by at most `phash_distance` bits AND
their text is the same. The text decides because hashes alone cannot: two digit strings, two bar charts,
or a red and a green circle look alike to a hash of low frequencies and are different samples.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from components.curate.funnel import Verdicts
from components.curate.samples import Candidate, Reason


def find_exact_duplicates(candidates: Sequence[Candidate], image: Callable[[Candidate], str]) -> Verdicts:
    """The same image and the same text a second time in the same split.

    Args:
        image: The image's hash: of the source's bytes before anything is decoded, of the pixels after.
            Samples of which it is empty are compared by their text alone when they have no image, and not
            at all when they have one.
    """
    first: dict[tuple[str, str, str], str] = {}
    verdicts: Verdicts = {}
    for position, candidate in enumerate(candidates):
        hashed = image(candidate)
        if candidate.has_image and not hashed:
            continue
        kept = first.setdefault((candidate.split, hashed, candidate.text_sha256), candidate.key)
        if kept != candidate.key:
            verdicts[position] = Reason("exact_duplicate", kept)
    return verdicts


def find_near_duplicates(candidates: Sequence[Candidate], distance: int) -> Verdicts:
    """The same text with a perceptually near image a second time in the same split."""
    kept: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    verdicts: Verdicts = {}
    for position, candidate in enumerate(candidates):
        if not candidate.phash:
            continue
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
    text; one without an image when its text is.
    """
    verdicts: Verdicts = {}
    for held_out, judged in (("test", ("train", "validation")), ("validation", ("train",))):
        images: dict[str, str] = {}
        texts: dict[str, list[tuple[int, str]]] = defaultdict(list)
        for position, candidate in enumerate(candidates):
            if candidate.split == held_out and position not in verdicts:
                if candidate.phash:
                    images.setdefault(candidate.image_sha256, candidate.key)
                    texts[candidate.text_sha256].append((int(candidate.phash, 16), candidate.key))
                else:
                    images.setdefault(candidate.text_sha256, candidate.key)
        for position, candidate in enumerate(candidates):
            if candidate.split not in judged or position in verdicts:
                continue
            if candidate.phash:
                other = images.get(candidate.image_sha256) or _nearest(
                    int(candidate.phash, 16), texts.get(candidate.text_sha256, ()), distance
                )
            else:
                other = images.get(candidate.text_sha256, "")
            if other:
                verdicts[position] = Reason(f"in_{held_out}", other)
    return verdicts


def _nearest(bits: int, hashes: Iterable[tuple[int, str]], distance: int) -> str:
    """Key of the first hash within `distance` bits, or nothing."""
    return next((key for other, key in hashes if (bits ^ other).bit_count() <= distance), "")
