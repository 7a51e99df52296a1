"""Which split a sample belongs to: the source's own where it has one, else decided by the hash of a group.

A split that the source lacks is carved out of its training split, whole groups at a time, so that what is
held out was never seen: its name says what it is (`unseen_folder`, `unseen_patient`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import get_args

from components.curate.samples import Split, share, slug

NAMES: Mapping[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
"""The names that the `datasets` library knows too."""
SPLITS: tuple[Split, ...] = get_args(Split)
OFFICIAL = "official_test"
"""The held-out group of a test split that the source has itself."""


def split_of_folder(name: str) -> str:
    """The name of a split that a file lies below; empty where there is none."""
    return next((part for part in name.split("/")[:-1] if part.casefold() in NAMES), "")


def split_of_table(name: str) -> str:
    """The name of a split that the path of a table or a shard says: a folder, or a word of the file's name.

    For files of many samples only: `train station.jpg` says nothing about its split.
    """
    words = re.split(r"[-._ 0-9]+", name.rpartition("/")[2])
    return split_of_folder(name) or next((word for word in words if word.casefold() in NAMES), "")


@dataclass(frozen=True)
class Splitter:
    """Places samples. The same sample always gets the same place, whatever else the source holds."""

    seed: int
    validation: float
    test: float
    """Shares of the groups that are held out where the source has no such split."""
    by: str
    """What groups are: what the held-out group is named for."""
    names: Mapping[str, str]
    """The source's own names of splits → ours, for those that are not usual."""
    own: Collection[Split] = SPLITS
    """Splits that the source has itself."""

    def named(self, name: str) -> Split | None:
        """The split that the source's own name stands for; None where it is not known."""
        chosen = self.names.get(name, name).strip().casefold()
        return NAMES.get(chosen)

    def place(self, split: Split | None, group: str) -> tuple[Split, str]:
        """Split and held-out group of a sample.

        Args:
            split: The source's own, or None.
            group: What may not be divided between splits.
        """
        if split in ("validation", "test"):
            return split, OFFICIAL if split == "test" else ""
        value = share(self.seed, "split", self.by, group)
        test = 0.0 if "test" in self.own else self.test
        if value < test:
            return "test", f"unseen_{slug(self.by).replace('-', '_')}"
        if "validation" not in self.own and value < test + self.validation:
            return "validation", ""
        return "train", ""
