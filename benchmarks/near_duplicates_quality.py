"""How well near duplicates are found: recall for each kind of copy, and different pictures taken for one.

    python -m benchmarks.near_duplicates_quality [--quick]

Real pictures are copied in thirteen ways (`near_duplicate_corpus`). Half of them, drawn by what they came
from, serves to choose the limits of `NearDuplicateConfig`: those of a grid that find most and take at most
1% of the pairs of every kind of hard negative for one picture. All figures are of the other half. Beside
them stands what the hash alone gives, as it would be used without a look at the thumbnails, and Zauner's
hash by the median. Intervals are Wilson's, at 95%.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import product
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.fft import dctn

from benchmarks.harness import quick
from benchmarks.near_duplicate_corpus import Corpus, build
from components.config.duplicates import NearDuplicateConfig
from components.curate.duplicates.alike import Alike
from components.curate.duplicates.perceptual import gray_of
from components.curate.duplicates.signatures import Signatures

CLASSES = {
    "photograph": ("photograph", "tile"),
    "drawing": ("emoji", "clipart"),
    "screenshot": ("screenshot",),
    "synthetic": ("shape", "digits", "chart", "table"),
    "page": ("page",),
}
MOST_FALSE = 0.01
PICTURE_LIMITS, COLOUR_LIMITS = (0.2, 0.3, 0.4, 0.5, 0.6), (10.0, 20.0, 30.0)
NOT_TUNED = ("page: one other line", "clip art", "screenshots")
"""Pairs that a person would call near duplicates (a page with one other line) or that partly are (clip art
and screenshots that come in series): reported, but no reason to be strict."""
MADE = (
    "digits: one other digit",
    "chart: one other bar",
    "chart: other colours",
    "table: one other number",
    "shape: another colour",
)
"""Pairs that were made to be confused."""
Matrix = npt.NDArray[np.bool_]


def main() -> None:
    short = quick(__doc__ or "")
    corpus = build(scale=0.12 if short else 1.0)
    tuning, reported = corpus.take(~corpus.reported), corpus.take(corpus.reported)
    chosen, table = choose(tuning)
    defaults = NearDuplicateConfig()
    ours, zauner = figures(reported, defaults), by_hash(reported, _median_hash(reported), 8)
    result: dict[str, Any] = {
        "name": "near_duplicates_quality",
        "claim": "pictures made to be confused are not taken for one, and copies are found",
        "unit": "of the made hard negatives taken for one picture",
        "ours": ours["made_hard_negatives"]["share"],
        "peers": {"Zauner's hash within 8 bits": zauner["made_hard_negatives"]["share"]},
        "originals": int((corpus.transform == "").sum()),
        "pictures": len(corpus.name),
        "reported_half": int((reported.transform == "").sum()),
        "tuning": table,
        "chosen": chosen,
        "defaults": {name: getattr(defaults, name) for name in chosen},
        "default": ours,
        "crop_0.2": figures(reported, NearDuplicateConfig(crop=0.2)),
        "hash_alone_8_bits": by_hash(reported, _own_hash(reported), 8),
        "zauner_median_8_bits": zauner,
    }
    print(json.dumps(result))


def choose(corpus: Corpus) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """The limits with the best mean recall that are strict enough, and what each of the grid gives."""
    table = []
    for picture, colour in product(PICTURE_LIMITS, COLOUR_LIMITS):
        limits = {"picture_difference": picture, "colour_difference": colour}
        found = figures(corpus, NearDuplicateConfig(**limits))
        recalls = [cell["recall"] for cells in found["recall"].values() for cell in cells.values()]
        shares = {name: each["share"] for name, each in found["hard_negatives"].items()}
        worst = max((name for name in shares if name not in NOT_TUNED), key=lambda name: shares[name])
        table.append(limits | {"recall": float(np.mean(recalls)), "worst": worst, "false": shares[worst]})
    strict = [row for row in table if row["false"] <= MOST_FALSE]
    best = max(strict, key=lambda row: float(row["recall"]))
    return {name: float(best[name]) for name in ("picture_difference", "colour_difference")}, table


def figures(corpus: Corpus, config: NearDuplicateConfig) -> dict[str, Any]:
    """Recall by class and transformation, and false pairs by kind of hard negative."""
    signatures = _signatures(corpus)
    rows = np.arange(len(signatures))
    originals = rows[corpus.transform == ""]
    left, right = Alike(signatures, config, held_out=True).between(originals, rows)
    alike = signatures.pixels[originals][:, None] == signatures.pixels[None, :]
    alike[left, right] = True
    return _figures(corpus, originals, alike)


def by_hash(corpus: Corpus, hashes: npt.NDArray[np.uint64], distance: int) -> dict[str, Any]:
    """The same figures when near hashes alone make a duplicate."""
    originals = np.flatnonzero(corpus.transform == "")
    alike = np.bitwise_count(hashes[originals][:, None] ^ hashes[None, :]) <= distance
    return _figures(corpus, originals, alike)


def _figures(corpus: Corpus, originals: npt.NDArray[np.int64], alike: Matrix) -> dict[str, Any]:
    founder = {family: place for place, family in reversed(list(enumerate(corpus.family[originals])))}
    recall: dict[str, dict[str, Any]] = {}
    for name, kinds in CLASSES.items():
        recall[name] = {}
        for transform in dict.fromkeys(corpus.transform.tolist()):
            copies = np.flatnonzero((corpus.transform == transform) & np.isin(corpus.kind, kinds))
            if transform:
                hits = sum(bool(alike[founder[corpus.family[row]], row]) for row in copies)
                recall[name][transform] = _share("recall", hits, len(copies))
    between = alike[:, originals]
    between = between | between.T
    negatives = {}
    for name, mask in _hard_negatives(corpus, originals):
        pairs = np.triu(mask & (corpus.family[originals][:, None] != corpus.family[originals]), 1)
        negatives[name] = _share("share", int((between & pairs).sum()), int(pairs.sum()))
    made = [negatives[name] for name in MADE]
    return {
        "recall": recall,
        "hard_negatives": negatives,
        "made_hard_negatives": _share("share", sum(m["hits"] for m in made), sum(m["of"] for m in made)),
        "precision": dict(_precision(corpus, originals, alike)),
    }


def _precision(
    corpus: Corpus, originals: npt.NDArray[np.int64], alike: Matrix
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Of all pairs of an original and any other picture that are taken for one, those that are, by class."""
    different = corpus.family[originals][:, None] != corpus.family[None, :]
    for name, kinds in CLASSES.items():
        rows = np.isin(corpus.kind[originals], kinds)
        true = int((alike & ~different)[rows].sum()) - int(rows.sum())
        yield name, _share("precision", true, true + int((alike & different)[rows].sum()))


def _hard_negatives(corpus: Corpus, originals: npt.NDArray[np.int64]) -> Iterator[tuple[str, Matrix]]:
    """Kinds of pairs of different pictures, as masks over pairs of originals."""
    names, kinds = corpus.name[originals], corpus.kind[originals]
    made_from = corpus.negative_of[originals][:, None] == names[None, :]
    made_from = made_from | made_from.T
    suffixes = np.array([name.rpartition("/")[2] for name in names])

    def of(kind: str) -> Matrix:
        return np.asarray(np.logical_and.outer(kinds == kind, kinds == kind))

    def changed(suffix: str) -> Matrix:
        return np.asarray(made_from & np.logical_or.outer(suffixes == suffix, suffixes == suffix))

    def equal(key: Callable[[str], str]) -> Matrix:
        keys = np.array([key(name) for name in names])
        return np.asarray(np.equal.outer(keys, keys))

    yield "tiles of one photograph", of("tile") & equal(lambda name: name.rpartition("/")[0])
    yield "emoji of one vendor", of("emoji") & equal(lambda name: name.partition("/")[0])
    yield "one emoji of two vendors", of("emoji") & equal(lambda name: name.partition("/")[2])
    yield "digits: one other digit", of("digits") & made_from
    yield "digits: another string", of("digits") & ~made_from
    yield "chart: one other bar", changed("bar")
    yield "chart: other colours", changed("colours")
    yield "table: one other number", changed("number")
    yield "shape: another colour", changed("recoloured")
    yield "page: another page", of("page") & ~made_from
    yield "page: one other line", changed("line")
    yield "clip art", of("clipart")
    yield "screenshots", of("screenshot")


def _share(name: str, hits: int, num: int) -> dict[str, Any]:
    """With Wilson's interval."""
    z = 1.96
    share = hits / max(num, 1)
    centre = (share + z * z / (2 * max(num, 1))) / (1 + z * z / max(num, 1))
    half = (
        z / (1 + z * z / max(num, 1)) * sqrt(share * (1 - share) / max(num, 1) + (z / (2 * max(num, 1))) ** 2)
    )
    interval = [round(max(0.0, centre - half), 5), round(min(1.0, centre + half), 5)]
    return {name: round(share, 5), "hits": hits, "of": num, "interval": interval}


def _signatures(corpus: Corpus) -> Signatures:
    """Every picture with a text of its own, so that pictures alone decide."""
    num = len(corpus.name)
    digests = np.unique(corpus.thumbnails, axis=0, return_inverse=True)[1].reshape(-1)
    return Signatures(
        keys=pa.array(corpus.name.tolist()),
        split=np.zeros(num, np.int8),
        pixels=digests.astype(np.uint64) + np.uint64(1),
        text=np.arange(1, num + 1, dtype=np.uint64),
        texts=pa.array([""] * num),
        thumbs=corpus.thumbnails,
        same_text_only=np.zeros(num, bool),
    )


def _own_hash(corpus: Corpus) -> npt.NDArray[np.uint64]:
    return _signatures(corpus).hashes


def _median_hash(corpus: Corpus) -> npt.NDArray[np.uint64]:
    """Zauner's hash as ImageHash has it: 8×8 lowest frequencies, each against their median."""
    lowest = dctn(gray_of(corpus.thumbnails).astype(np.float64), axes=(1, 2))[:, :8, :8].reshape(-1, 64)
    bits = lowest > np.median(lowest, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(">u8")[:, 0].astype(np.uint64)


if __name__ == "__main__":
    main()
