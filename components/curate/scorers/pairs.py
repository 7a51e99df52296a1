"""What alignment is judged on: pictures and their texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from components.curate.samples import Turn


@dataclass(frozen=True)
class Pairs:
    """N pictures with their texts, column by column."""

    images: Sequence[Image.Image]
    """RGB, reduced; read one by one, so a lazy sequence is fine."""
    texts: Sequence[str]
    groups: Sequence[str]
    """A text is compared with the others of its group (its source: texts of another would give themselves
    away by their style)."""
    keys: Sequence[str]
    """Pairs of one key are never split between learning and scoring (the hash of the picture)."""
    features_ND: npt.NDArray[np.float32] | None = None
    """From `judge_safety`, where safety was judged too."""


def text_of(turns: Sequence[Turn]) -> str:
    """What a sample says about its picture: its answers."""
    return " ".join(turn.answer for turn in turns)
