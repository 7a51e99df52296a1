"""Sources: every kind of raw data behind one interface, one module each.

A reader has two pure halves: `plan` lists drafts (split, group, text) from the fetched archives, cheap
and in a fixed order; `render` draws one draft. To add a kind of source, write the two and list it here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from components.config import CurateConfig, SourceConfig
from components.curate.samples import Draft
from components.curate.sources import clipart, digits, easy_vqa, emoji, tables

Archives = Mapping[str, Path]
"""Fetched files by role: `data` is the source's own locator, others are options that hold a locator."""


@dataclass(frozen=True)
class Reader:
    """How one kind of source becomes samples."""

    plan: Callable[[Archives, SourceConfig, CurateConfig], list[Draft]]
    render: Callable[[dict[str, Any], int], Image.Image]
    """Payload and side in pixels → RGB image."""
    options: Mapping[str, type]
    """Options that the reader understands."""
    locators: tuple[str, ...] = ()
    """Options that are locators themselves and are fetched too."""


READERS: Mapping[str, Reader] = {
    "clipart": Reader(clipart.plan, clipart.render, {"unseen_folders": float, "validation": float}),
    "easy_vqa": Reader(easy_vqa.plan, easy_vqa.render, {"validation": float}),
    "emoji": Reader(
        emoji.plan,
        emoji.render,
        {
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
        {"train": int, "validation": int, "test": int, "min_digits": int, "max_digits": int},
    ),
    "tables": Reader(
        tables.plan,
        tables.render,
        {"train": int, "validation": int, "test": int, "unseen_packages": float},
    ),
}
