"""What a reader is: how one kind of source becomes drafts, and how a draft becomes an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from components.config import CurateConfig, SourceConfig
from components.curate.samples import Draft


class Share(float):
    """The kind of an option that is a share of something: a number from 0 to less than 1."""


Archives = Mapping[str, Path]
"""What was fetched, by role: `data` is the source's own locator, others are options that hold a locator."""


@dataclass(frozen=True)
class Reader:
    """How one kind of source becomes samples: `plan`, and one of `load` and `render` (neither: text only)."""

    plan: Callable[[Archives, SourceConfig, CurateConfig], list[Draft]]
    """Drafts in a fixed order; cheap, and nothing is decoded or drawn."""
    render: Callable[[dict[str, Any], int], Image.Image] | None = None
    """Payload and side in pixels → RGB image, for what is drawn from data."""
    load: Callable[[dict[str, Any]], bytes] | None = None
    """Payload → encoded image as the source holds it (JPEG, PNG, …), for what is already a picture."""
    options: Mapping[str, type] = field(default_factory=dict)
    """Options that the reader understands, and of what kind their values are; `Share` bounds them too."""
    locators: tuple[str, ...] = ()
    """Options that are locators themselves and are fetched too."""
