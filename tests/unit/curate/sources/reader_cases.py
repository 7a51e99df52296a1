"""Every reader that reads inside a package, with a tiny package to read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import tiny_sources as tiny

from components.config import CurateConfig, SourceConfig
from components.curate.samples import Draft
from components.curate.sources import READERS, Reader


@dataclass(frozen=True)
class Case:
    """A reader with its archives and options."""

    module: str
    archives: Mapping[str, Path]
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def reader(self) -> Reader:
        return READERS[self.module]

    def plan(self, seed: int = 0, **options: Any) -> list[Draft]:
        """The drafts, with a test's options on top of the case's own."""
        source = SourceConfig.model_validate(
            {
                "locator": "deb:tiny==1.0",
                "reader": self.module,
                "category": "tiny",
                "options": {**self.options, **options},
            }
        )
        return self.reader.plan(self.archives, source, CurateConfig(sources=(source,), seed=seed))


EMOJI = {"labels": "npm:labels==1.0.0", "unseen_concepts": 0.3}
TEXTS = {"unseen_documents": 0.3, "validation": 0.2}
PACKAGES = {
    "wordnet": tiny.wordnet,
    "fortunes": tiny.fortunes,
    "mallard": tiny.mallard,
    "office": tiny.office,
    "chatterbot": tiny.chatterbot,
}


def _emoji(folder: Path, *, module: str, chars: bool, **options: float) -> Case:
    vendor = tiny.vendor(folder / "vendor.tgz", "alpha", chars=chars)
    return Case(
        module, {"data": vendor, "labels": tiny.emojibase(folder / "labels.tgz")}, {**EMOJI, **options}
    )


def _text(folder: Path, *, package: str, **options: Any) -> Case:
    return Case("texts", {"data": PACKAGES[package](folder)}, {**TEXTS, **options})


CASES: Mapping[str, Callable[[Path], Case]] = {
    "fashion": lambda folder: Case("fashion", {"data": tiny.fashion(folder)}, {"validation": 0.3}),
    "flags": lambda folder: Case(
        "flags",
        tiny.flags(folder),
        {"flags": "npm:f==1.0.0", "unseen_countries": 0.3, "train": 60, "validation": 20, "test": 40},
    ),
    "maps": lambda folder: Case(
        "maps",
        {"data": tiny.maps(folder)},
        {"per_map": 12, "unseen_maps": 0.3, "validation": 0.2, "box_units": 20},
    ),
    "arc": lambda folder: Case("arc", {"data": tiny.arc(folder)}, {"validation": 0.2}),
    "screenshots": lambda folder: Case(
        "screenshots", {"data": tiny.manual(folder)}, {"unseen_pages": 0.2, "validation": 0.2}
    ),
    "emoji": partial(_emoji, module="emoji", chars=True, validation=0.3),
    "emoji without a table": partial(_emoji, module="emoji", chars=False, validation=0.3),
    "counting": partial(
        _emoji, module="counting", chars=True, validation_concepts=0.3, train=60, validation=20, test=30
    ),
    **{name: partial(_text, package=name) for name in PACKAGES},
    **{f"{name}, drawn": partial(_text, package=name, draw=True, max_chars=16) for name in PACKAGES},
}
