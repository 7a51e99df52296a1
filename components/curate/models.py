"""Filters that ask a model, over what the cheaper ones left: safety, and how well picture and text agree.

They look at the reduced pixels that the one decode left; nothing is decoded again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import overload

import numpy as np
import numpy.typing as npt
from PIL import Image

from components.config import CurateConfig
from components.curate.chunks import Blob, Row, run_in_chunks
from components.curate.engines import Engine
from components.curate.funnel import Funnel, Verdicts
from components.curate.samples import Candidate, Place

PER_CHUNK = 100
"""Pictures judged between two saves: a second and a half."""
Features = Mapping[str, npt.NDArray[np.float32]]
"""Key → features of the picture, (1024,)."""


def wants_pixels(candidate: Candidate, config: CurateConfig) -> bool:
    """Whether a model will look at the picture, so that its decoded pixels are worth keeping."""
    judged = config.safety is not None and candidate.category not in config.safety.exempt
    return judged or (config.alignment is not None and candidate.category in config.alignment.categories)


@dataclass(frozen=True)
class Pixels:
    """Decoded pixels in a chunk's blob."""

    place: Place
    size: tuple[int, int]

    def image(self) -> Image.Image:
        return Image.frombytes("RGB", self.size, self.place.read())


def drop_unsafe(funnel: Funnel, engine: Engine, config: CurateConfig, directory: Path) -> Features:
    """Pictures that the packaged safety model finds unsafe; gives the features that it saw."""
    if config.safety is None:
        return {}
    from components.curate.scorers.safety import find_unsafe

    safety = config.safety
    places = [
        place
        for place, each in enumerate(funnel.kept)
        if each.picture and each.picture.pixels and each.category not in safety.exempt
    ]
    items = [_pixels(funnel.kept[place]) for place in places]
    threads = config.execution.threads if config.execution.workers == 1 else 1
    work = partial(judge_chunk, threads=threads)
    done = run_in_chunks(engine, "safety", work, items, directory, size=PER_CHUNK)
    features = {}
    for place, row in zip(places, done.rows, strict=True):
        funnel.kept[place] = funnel.kept[place].scored("nsfw", row["score"])
        features[funnel.kept[place].key] = np.frombuffer(row["features"], np.float32)
    judged = set(places)
    unsafe = find_unsafe(
        [each.scores["nsfw"] if place in judged else 0.0 for place, each in enumerate(funnel.kept)],
        [each.category for each in funnel.kept],
        safety,
    )
    funnel.apply("safety", lambda _: unsafe, spent=done.seconds)
    return features


def judge_chunk(items: Sequence[Pixels], _blob: Blob, *, threads: int) -> list[Row]:
    """Safety score and features of each picture."""
    from components.curate.scorers.safety import judge_safety

    judged = judge_safety([each.image() for each in items], threads=threads)
    rows = zip(judged.scores, judged.features_ND, strict=True)
    return [{"score": score, "features": features.tobytes()} for score, features in rows]


def drop_misaligned(funnel: Funnel, config: CurateConfig, features: Features) -> None:
    """Scores how well each picture and its text agree; rejects of the training samples what the config says.

    Held-out samples are scored and stay: a test set without what a model finds hard is a biased one.
    """
    if config.alignment is None:
        return
    from components.curate.scorers.alignment import find_misaligned, score_alignment
    from components.curate.scorers.pairs import Pairs, text_of

    alignment = config.alignment

    def judge(items: Sequence[Candidate]) -> Verdicts:
        places = [
            place
            for place, each in enumerate(items)
            if each.category in alignment.categories and each.picture and each.picture.pixels and each.turns
        ]
        chosen = [items[place] for place in places]
        known = all(each.key in features for each in chosen) and bool(chosen)
        pairs = Pairs(
            images=LazyImages([_pixels(each) for each in chosen]),
            texts=[text_of(each.turns) for each in chosen],
            groups=[each.source for each in chosen],
            keys=[each.image_sha256 for each in chosen],
            features_ND=np.stack([features[each.key] for each in chosen]) if known else None,
        )
        scores = score_alignment(pairs, alignment, seed=config.seed, threads=config.execution.threads)
        for place, score in zip(places, scores, strict=True):
            if not math.isnan(score):
                funnel.kept[place] = funnel.kept[place].scored("alignment", score)
        trained = [number for number, each in enumerate(chosen) if each.split == "train"]
        found = find_misaligned(
            [scores[number] for number in trained],
            [chosen[number].category for number in trained],
            alignment,
        )
        return {places[trained[position]]: reason for position, reason in found.items()}

    funnel.apply("alignment", judge)


class LazyImages(Sequence[Image.Image]):
    """Pictures read one by one: a corpus does not fit in memory."""

    def __init__(self, pixels: Sequence[Pixels]) -> None:
        self._pixels = pixels

    def __len__(self) -> int:
        return len(self._pixels)

    @overload
    def __getitem__(self, place: int) -> Image.Image: ...
    @overload
    def __getitem__(self, place: slice) -> LazyImages: ...
    def __getitem__(self, place: int | slice) -> Image.Image | LazyImages:
        if isinstance(place, slice):
            return LazyImages(self._pixels[place])
        return self._pixels[place].image()


def _pixels(candidate: Candidate) -> Pixels:
    picture = candidate.picture
    assert picture is not None and picture.pixels is not None, "the decode kept them"
    return Pixels(picture.pixels, picture.pixels_size)
