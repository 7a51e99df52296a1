"""Do picture and text belong together: any scorer behind one protocol, and what its scores reject."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol

from components.config.scorers import AlignmentConfig
from components.curate.samples import Reason
from components.curate.scorers.contrastive import Contrastive
from components.curate.scorers.dual_encoder import DualEncoder
from components.curate.scorers.pairs import Pairs


class AlignmentScorer(Protocol):
    """Scores pairs; higher is better aligned, NaN is not judged."""

    def score(self, pairs: Pairs) -> list[float]: ...


def build_scorer(config: AlignmentConfig, *, seed: int, threads: int, device: str = "cpu") -> AlignmentScorer:
    """The pretrained dual encoder that the config names, or the corpus's own."""
    if config.model:
        return DualEncoder(config.model, threads, device)
    return Contrastive(config.contrastive, seed, threads)


def score_alignment(
    pairs: Pairs, config: AlignmentConfig, *, seed: int, threads: int, device: str = "cpu"
) -> list[float]:
    """A score for each pair: cosine (a model was named) or nats (trained on the corpus); NaN: not judged.

    Raises:
        ConfigError: the model cannot be loaded, or there are too few pairs to learn from.
    """
    return build_scorer(config, seed=seed, threads=threads, device=device).score(pairs)


def find_misaligned(
    scores: Sequence[float], categories: Sequence[str], config: AlignmentConfig
) -> dict[int, Reason]:
    """Position → why the pair is rejected: below the threshold, or among the lowest of its category.

    Args:
        scores: NaN is never rejected. Of equal scores the later pair goes first.
        categories: One each; only those of the config are judged.
    """
    judged: dict[str, list[int]] = defaultdict(list)
    for position, (score, category) in enumerate(zip(scores, categories, strict=True)):
        if category in config.categories and not math.isnan(score):
            judged[category].append(position)
    if config.min_score is not None:
        floor, places = config.min_score, sorted(place for each in judged.values() for place in each)
        return {
            place: Reason("misaligned", evidence=f"{_words(scores[place], config)}; at least {floor:g}")
            for place in places
            if scores[place] < floor
        }
    found = {}
    for places in judged.values():
        ranked = sorted(places, key=lambda place: (scores[place], -place))
        for rank, place in enumerate(ranked[: int(config.drop_share * len(ranked))], 1):
            found[place] = Reason(
                "misaligned", evidence=f"{_words(scores[place], config)}; rank {rank} of {len(ranked)}"
            )
    return found


def _words(score: float, config: AlignmentConfig) -> str:
    return f"cosine {score:.3f}" if config.model else f"{score:+.2f} nats"
