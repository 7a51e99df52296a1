"""What is measured on held-out data with packed forwards: losses, and exact match without generating.

Under teacher forcing an answer is matched when every one of its tokens is the most probable one: then, and
only then, greedy decoding writes exactly that answer. So exact match costs one forward of a pack.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch.nn import functional

from components.engine.loss import PackedLoss
from components.loader import IGNORED, Batch, Collator, Encoded, Pack, Packing, pack_once

PACKS_PER_FORWARD = 4


@dataclass(frozen=True)
class Measured:
    """Held-out answers, each measured."""

    frame: pd.DataFrame
    """One row an answer: key (of its sample), turn (number of the answer in the sample), group (a category,
    or category/group), loss (nats, summed), tokens, correct (0 or 1), ends (1: the end token is the most
    probable one behind the answer)."""

    def losses(self) -> dict[str, float]:
        """Group → mean loss per labelled token."""
        sums = self.frame.groupby("group", sort=True)[["loss", "tokens"]].sum()
        return {str(name): float(row["loss"] / row["tokens"]) for name, row in sums.iterrows()}

    def exact(self) -> dict[str, float]:
        """Group → share of answers that match exactly."""
        means = self.frame.groupby("group", sort=True)["correct"].mean()
        return {str(name): float(value) for name, value in means.items()}


class HeldOut:
    """A choice of held-out samples, packed once and measured as often as asked."""

    def __init__(self, collate: Collator, samples: Sequence[int], how: Packing) -> None:
        self.collate = collate
        self.packs = pack_once(collate.encoded, samples, how)

    def measure(self, module: PackedLoss, device: torch.device) -> Measured:
        """Measure every answer; the model is left as it was."""
        training = module.training
        module.eval()
        frames = []
        with torch.inference_mode():
            for start in range(0, len(self.packs), PACKS_PER_FORWARD):
                packs = self.packs[start : start + PACKS_PER_FORWARD]
                batch = self.collate(packs)
                frame = _answers(module, batch.to(device))
                frame["key"] = _keys(self.collate.encoded, packs)
                frames.append(frame)
        module.train(training)
        frame = pd.concat(frames, ignore_index=True)
        frame["group"] = [self.collate.encoded.categories[number] for number in frame.pop("category")]
        frame["turn"] = frame.groupby("key").cumcount()
        return Measured(frame)


def _answers(module: PackedLoss, batch: Batch) -> pd.DataFrame:
    """Category, loss, tokens and correctness of each answer of a batch, row by row."""
    logits_KV, targets_K = module.logits(batch)
    losses_K = functional.cross_entropy(logits_KV, targets_K, reduction="none").cpu()
    right_K = (logits_KV.argmax(-1) == targets_K).cpu()
    labelled_BL = (batch.labels_BL[:, 1:] != IGNORED).cpu()
    before_BL = functional.pad(labelled_BL, (1, 0))[:, :-1]
    # A question stands between two answers: an answer begins where the token before it has no label.
    answer_K = torch.cumsum((labelled_BL & ~before_BL)[labelled_BL].long(), 0) - 1
    number = int(answer_K[-1]) + 1
    zeros = torch.zeros(number, dtype=torch.float64)
    tokens = zeros.index_add(0, answer_K, torch.ones(len(answer_K), dtype=torch.float64))
    right = zeros.index_add(0, answer_K, right_K.double())
    categories = torch.zeros(number, dtype=torch.long).index_copy_(
        0, answer_K, batch.labelled_categories_K.cpu()
    )
    last = torch.zeros(number, dtype=torch.long).scatter_reduce(
        0, answer_K, torch.arange(len(answer_K)), "amax", include_self=False
    )
    ends = right_K[last].double()
    return pd.DataFrame(
        {
            "category": categories.numpy(),
            "loss": zeros.index_add(0, answer_K, losses_K.double()).numpy(),
            "tokens": tokens.numpy(),
            "correct": (right == tokens).double().numpy(),
            "ends": ends.numpy(),
        }
    )


def _keys(encoded: Encoded, packs: Sequence[Pack]) -> list[str]:
    """Key of each answer's sample, in the order of `_answers`."""
    keys = list[str]()
    for pack in packs:
        for item in pack:
            turns = encoded.turns(item.image)
            first, last = turns.start_T[item.first_turn], turns.start_T[item.first_turn + item.num_turns]
            label_N = np.asarray(turns.label_N[first:last])
            answers = int(label_N[:1].sum() + (np.diff(label_N.astype(np.int8)) == 1).sum())
            keys += [encoded.keys[item.sample]] * answers
    return keys


def choose(encoded: Encoded, samples_per_category: int, seed: int) -> list[int]:
    """A seeded choice of at most so many samples of each category.

    By a hash of the key: where samples are added or left out, the choice of the others stays.
    """
    chosen = list[int]()
    for category in range(len(encoded.categories)):
        samples = np.flatnonzero(encoded.category_S == category).tolist()
        samples.sort(key=lambda sample: _lot(encoded.keys[sample], seed))
        chosen.extend(samples[:samples_per_category])
    return chosen


def _lot(key: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed} {key}".encode(), digest_size=8).digest()
