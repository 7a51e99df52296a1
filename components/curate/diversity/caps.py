"""What a balanced dataset does without: unwanted topics, and the surplus of labels above their caps."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from components.config.diversity import OTHER, Cap, DiversityConfig
from components.curate.samples import Reason, share
from components.errors import ConfigError

CAPPED_SPLIT = "train"
"""Validation and test measure what they measure; only what is learned from is balanced."""


@dataclass(frozen=True)
class Labelled:
    """What a cap looks at."""

    key: str
    split: str
    label: str
    score: float = math.nan
    """Alignment; NaN where it was not judged."""


def apply_caps(samples: Sequence[Labelled], config: DiversityConfig, *, seed: int) -> dict[int, Reason]:
    """Position → why the sample goes: `unwanted_label` in every split, `label_cap` in training.

    The same samples go in whatever order they come.

    Raises:
        ConfigError: the caps cannot be met: the labels that are there may together not be the whole.
    """
    unwanted = config.unwanted
    found = {
        place: Reason("unwanted_label", evidence=each.label)
        for place, each in enumerate(samples)
        if each.label in unwanted
    }
    members: dict[str, list[int]] = defaultdict(list)
    for place, each in enumerate(samples):
        if each.split == CAPPED_SPLIT and place not in found:
            members[each.label].append(place)
    limits = cap_counts({label: len(places) for label, places in members.items()}, config)
    for label, places in members.items():
        surplus = len(places) - limits[label]
        ranked = _worst_first(samples, places, config, seed) if surplus else []
        for place in ranked[:surplus]:
            found[place] = Reason("label_cap", evidence=f"{label}: {len(places)}, at most {limits[label]}")
    return dict(sorted(found.items()))


def cap_counts(counts: Mapping[str, int], config: DiversityConfig) -> dict[str, int]:
    """Label → samples that stay: the most that satisfy every cap.

    A share is one of what stays, so a cap on one label lowers the others' too: repeated until nothing
    changes. Counts only fall, so this ends, at the largest solution.

    Raises:
        ConfigError: only an empty dataset satisfies the caps.
    """
    caps = {label: _cap(label, config) for label in counts}
    kept = {label: min(count, caps[label].max_count or count) for label, count in counts.items()}
    while True:
        total = sum(kept.values())
        lower = {
            label: min(count, math.floor(Fraction(str(caps[label].max_share)) * total))
            for label, count in kept.items()
        }
        if lower == kept:
            break
        kept = lower
    if sum(counts.values()) and not total:
        shares = ", ".join(f"{label} {caps[label].max_share:g}" for label in sorted(counts))
        raise ConfigError(
            f"no dataset satisfies these caps: the labels that are there may be at most {shares} of it",
            where="curate.diversity",
            fix="raise max_share until the labels that are there can add up to the whole",
        )
    return kept


def _cap(label: str, config: DiversityConfig) -> Cap:
    if label in config.caps:
        return config.caps[label]
    if label.rpartition("/")[2] == OTHER:
        return Cap()
    return Cap(max_share=config.max_share, max_count=config.max_count)


def _worst_first(
    samples: Sequence[Labelled], places: Sequence[int], config: DiversityConfig, seed: int
) -> list[int]:
    """Lowest alignment first where all have one and the config wants it, else a choice by hash."""
    scored = config.surplus == "alignment" and not any(math.isnan(samples[place].score) for place in places)

    def rank(place: int) -> tuple[float, float, str]:
        each = samples[place]
        return (each.score if scored else 0.0, share(seed, "cap", each.key), each.key)

    return sorted(places, key=rank)
