"""Preference pairs: what one is, how sampled answers become one, and how pairs lie on disk."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from components.answers import is_correct
from components.vlm import Generation

PAIRS_FILE: Final = "pairs.parquet"
SCHEMA: Final = pa.schema(
    [
        ("key", pa.string()),
        ("turn", pa.int32()),
        ("category", pa.string()),
        ("question", pa.string()),
        ("messages", pa.string()),
        ("chosen", pa.string()),
        ("rejected", pa.string()),
        ("images", pa.list_(pa.binary())),
    ]
)


class Pair(BaseModel):
    """A right and a wrong answer to one question about images."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    """Key of the sample in the dataset."""
    turn: int
    """Which of the sample's turns was asked."""
    category: str
    question: str
    messages: list[dict[str, Any]]
    """The chat up to the answer; as JSON on disk."""
    chosen: str
    rejected: str
    images: tuple[bytes, ...]
    """Those that the chat shows, encoded as they lie in the shard."""


def judge(answers: Sequence[Generation], truth: str) -> tuple[str, str] | None:
    """The chosen and the rejected answer among what the model said to one question.

    Chosen is the model's own right answer in its most frequent wording, which is closer to what it
    would say anyway than the ground truth, and the ground truth where it had none. Rejected is its own
    most frequent wrong answer. Answers that did not end by themselves are left out: a pair ends both
    answers with an end token, and the model never wrote that one.

    Returns:
        (chosen, rejected), or None where the model was never wrong.
    """
    said = [answer.text for answer in answers if answer.ended]
    # most_common keeps the order of first appearance among equals, so the choice is deterministic.
    right = Counter(text for text in said if is_correct(text, truth)).most_common(1)
    wrong = Counter(text for text in said if not is_correct(text, truth)).most_common(1)
    if not wrong:
        return None
    return (right[0][0] if right else truth), wrong[0][0]


def write_pairs(pairs: Iterable[Pair], directory: Path) -> None:
    """Write `pairs.parquet`; the same pairs give the same bytes."""
    rows = [pair.model_dump() | {"messages": json.dumps(pair.messages)} for pair in pairs]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), directory / PAIRS_FILE, compression="zstd")


def read_pairs(directory: Path) -> list[Pair]:
    """Read `pairs.parquet`, in its order."""
    rows = pq.read_table(directory / PAIRS_FILE).to_pylist()
    return [Pair.model_validate(row | {"messages": json.loads(row["messages"])}) for row in rows]


def split_pairs(pairs: Sequence[Pair], *, held_out_share: float, seed: int) -> tuple[list[Pair], list[Pair]]:
    """Pairs to train on and pairs held out; all pairs of one sample fall on the same side, neither is empty.

    Raises:
        AssertionError: the pairs stand on fewer than two samples.
    """
    keys = sorted({pair.key for pair in pairs})
    assert len(keys) >= 2, "pairs of at least two samples are needed to hold some out"
    order = np.random.default_rng(seed).permutation(len(keys))
    num_held_out = min(max(round(held_out_share * len(keys)), 1), len(keys) - 1)
    held_out = {keys[index] for index in order[:num_held_out]}
    return [pair for pair in pairs if pair.key not in held_out], [
        pair for pair in pairs if pair.key in held_out
    ]
