"""The data sections: the funnel with its reject reasons, what was kept, and the mixture over it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.report.files import RunFiles, picture, read_json

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Category:
    name: str
    share: float
    """Of all training samples."""
    splits: dict[str, int] = field(default_factory=dict)
    groups: dict[str, int] = field(default_factory=dict)
    """Held-out group → samples."""


@dataclass(frozen=True)
class DataSection:
    name: str
    version: str
    num_samples: int
    funnel: tuple[Mapping[str, Any], ...]
    """Per filter: name, num_in, num_out, rejected per category."""
    reasons: Mapping[str, int]
    categories: tuple[Category, ...]
    splits: tuple[str, ...]
    contact: str | None
    links: tuple[tuple[str, str], ...]
    """Name and address of pages with more: the gallery, the balance of labels, Data Docs."""


def data(files: RunFiles) -> DataSection | None:
    """What curation kept and rejected; None where it did not finish."""
    found = files.of_kind("dataset")
    if not found:
        return None
    outcome, record = found[0]
    funnel = read_json(outcome.logs / "funnel.json") or {"filters": [], "reasons": {}, "kept": []}
    return DataSection(
        name=record.artifact["name"],
        version=record.artifact["version"],
        num_samples=record.artifact["num_samples"],
        funnel=tuple(funnel["filters"]),
        reasons=funnel["reasons"],
        categories=_categories(funnel["kept"]),
        splits=SPLITS,
        contact=picture(outcome.logs / "contact.png"),
        links=tuple(
            (name, path.resolve().as_uri()) for name, path in pages(outcome.logs).items() if path.is_file()
        ),
    )


def pages(logs: Path) -> dict[str, Path]:
    """Pages that curation leaves beside its output, by what they are called."""
    return {
        "gallery of what was kept and rejected": logs / "gallery.html",
        "balance of the labels": logs / "balance.png",
        "balance in numbers": logs / "balance.json",
        "Great Expectations' Data Docs": logs / "data_docs" / "index.html",
    }


def _categories(kept: list[dict[str, Any]]) -> tuple[Category, ...]:
    num_train = sum(row["samples"] for row in kept if row["split"] == "train")
    categories = []
    for name in sorted({row["category"] for row in kept}):
        rows = [row for row in kept if row["category"] == name]
        splits = {split: sum(row["samples"] for row in rows if row["split"] == split) for split in SPLITS}
        groups = {row["group"]: row["samples"] for row in rows if row["group"]}
        categories.append(Category(name, splits["train"] / num_train if num_train else 0.0, splits, groups))
    return tuple(categories)
