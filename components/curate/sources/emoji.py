"""Emoji of one vendor (npm `@iconify-json/<vendor>`), captioned with emojibase's English labels.

A held-out vendor becomes the test group `unseen_vendor`. A fixed share of the concepts is kept out of
training for every vendor; what the training vendors drew of it is the test group `unseen_concept`.
Skin tones and gendered variants are dropped: they share one label's meaning and would fill the set.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from components.config import CurateConfig, SourceConfig
from components.curate.samples import Draft, Split, Turn, share
from components.curate.sources.vector import rasterize
from components.errors import ConfigError

QUESTION = "What does this show?"
LABELS, GROUPS = "package/en/data.json", "package/meta/groups.json"


def plan(archives: Mapping[str, Path], source: SourceConfig, config: CurateConfig) -> list[Draft]:
    """One draft per emoji that both the vendor and emojibase know.

    Raises:
        ConfigError: `options.groups` names a group that emojibase does not have.
    """
    options = source.options
    held_out = bool(options.get("held_out", False))
    concepts = float(options.get("unseen_concepts", 0.1))  # type: ignore[arg-type]
    validation = float(options.get("validation", 0.05))  # type: ignore[arg-type]
    wanted = _wanted_groups(archives["labels"], source)
    icons = _read(archives["data"], "package/icons.json")
    names = {_codes(codes): name for codes, name in _read(archives["data"], "package/chars.json").items()}
    drafts = []
    for entry in _read(archives["labels"], LABELS):
        name = names.get(_codes(entry["hexcode"]))
        if name is None or "gender" in entry or name not in icons["icons"]:
            continue
        if wanted is not None and entry.get("group") not in wanted:
            continue
        unseen = share(config.seed, "concept", entry["hexcode"]) < concepts
        split: Split = "test" if held_out or unseen else "train"
        if split == "train" and share(config.seed, icons["prefix"], entry["hexcode"]) < validation:
            split = "validation"
        if held_out and unseen:
            continue
        drafts.append(
            Draft(
                original_id=name,
                split=split,
                group="unseen_vendor" if held_out else "unseen_concept" if unseen else "",
                turns=(Turn(QUESTION, entry["label"].lower()),),
                payload={"svg": _svg(icons, name)},
            )
        )
    return drafts


def _wanted_groups(labels: Path, source: SourceConfig) -> set[int] | None:
    """Numbers of the groups that `options.groups` names; None takes every emoji."""
    named = source.options.get("groups")
    if not isinstance(named, list):
        return None
    numbers = {name: int(number) for number, name in _read(labels, GROUPS)["groups"].items()}
    unknown = [name for name in named if name not in numbers]
    if unknown:
        raise ConfigError(
            f"unknown group of emoji {', '.join(unknown)}",
            where=f"curate.sources, {source.locator}, options.groups",
            fix=f"groups it knows: {', '.join(numbers)}",
        )
    return {numbers[name] for name in named}


def render(payload: dict[str, Any], size: int) -> Image.Image:
    """Rasterize on white."""
    return rasterize(payload["svg"], size)


def _read(archive: Path, member: str) -> Any:
    with tarfile.open(archive) as file:
        content = file.extractfile(member)
        assert content is not None, f"{archive} has no {member}"
        return json.load(content)


def _codes(hexcode: str) -> str:
    """Code points without the variation selector, which vendors write or leave out."""
    return "-".join(code for code in hexcode.lower().split("-") if code != "fe0f")


def _svg(icons: dict[str, Any], name: str) -> str:
    icon = icons["icons"][name]
    left, top = icon.get("left", 0), icon.get("top", 0)
    width = icon.get("width", icons.get("width", 16))
    height = icon.get("height", icons.get("height", 16))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left} {top} {width} {height}">{icon["body"]}</svg>'
    )
