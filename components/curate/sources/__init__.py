"""Sources: every kind of raw data behind one interface, one module each.

A reader has pure halves: `plan` lists drafts (split, group, text) from what was fetched, cheap and in a
fixed order; `load` gives the encoded image of one draft, or `render` draws it. To add a kind of source,
write the two and list it here.
"""

from __future__ import annotations

from collections.abc import Mapping

from components.curate.sources import clipart, digits, easy_vqa, emoji, tables
from components.curate.sources.reader import Archives, Reader

__all__ = ["READERS", "Archives", "Reader"]

READERS: Mapping[str, Reader] = {
    "clipart": Reader(clipart.plan, clipart.render, options={"unseen_folders": float, "validation": float}),
    "easy_vqa": Reader(easy_vqa.plan, load=easy_vqa.load, options={"validation": float}),
    "emoji": Reader(
        emoji.plan,
        emoji.render,
        options={
            "labels": str,
            "groups": list,
            "held_out": bool,
            "unseen_concepts": float,
            "validation": float,
        },
        locators=("labels",),
    ),
    "digits": Reader(
        digits.plan,
        digits.render,
        options={"train": int, "validation": int, "test": int, "min_digits": int, "max_digits": int},
    ),
    "tables": Reader(
        tables.plan,
        tables.render,
        options={"train": int, "validation": int, "test": int, "unseen_packages": float},
    ),
}
