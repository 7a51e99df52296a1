"""The dataset card (`README.md` with a YAML head, as on the Hugging Face hub): licence and configs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from components.errors import SourceError

CARD = "README.md"


def read_card(folder: Path) -> dict[str, Any]:
    """The head of a folder's card; empty where there is no card, or no head.

    Raises:
        SourceError: the head is no YAML.
    """
    from huggingface_hub import DatasetCard

    path = folder / CARD
    if not path.is_file():
        return {}
    text = path.read_text(encoding="utf-8", errors="replace")
    if not text.startswith("---"):
        return {}
    try:
        data = DatasetCard(text, ignore_metadata_errors=True).data
        return dict(data.to_dict())  # type: ignore[no-untyped-call]
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise SourceError(
            f"the head of the dataset card cannot be read: {error}", where=str(path), fix="mend its YAML"
        ) from error


def licence_of(card: dict[str, Any]) -> str:
    """The licence that a card names; empty where it names none."""
    named = card.get("license") or ""
    several = named if isinstance(named, list) else [named]
    if several == ["other"] and card.get("license_name"):
        several = [card["license_name"]]
    return " AND ".join(str(each) for each in several if each)
