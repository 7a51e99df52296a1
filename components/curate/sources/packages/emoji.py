"""Emoji of one vendor (npm `@iconify-json/<vendor>`), captioned with emojibase's English labels.

A held-out vendor becomes the test group `unseen_vendor`. A fixed share of the concepts is kept out of
training for every vendor; what the training vendors drew of it is the test group `unseen_concept`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from components.config import CurateConfig, SourceConfig
from components.curate.samples import Draft, Split, Turn, share
from components.curate.sources.packages.icons import read_concepts, read_icons
from components.curate.sources.planning import option, pick
from components.curate.sources.reader import Reader, Share
from components.curate.sources.vector.rasterize import rasterize

WORDINGS = {
    "name": ("What does this show?", "What is this?", "What can be seen here?", "Name what is drawn here."),
}


def plan(archives: Mapping[str, Path], source: SourceConfig, config: CurateConfig) -> list[Draft]:
    """One draft per emoji that both the vendor and emojibase know.

    Raises:
        ConfigError: `options.groups` names a group that emojibase does not have.
        SourceError: one of the packages is not what it should be.
    """
    held_out = option(source, "held_out", False)
    share_unseen = option(source, "unseen_concepts", 0.1)
    validation = option(source, "validation", 0.05)
    concepts = read_concepts(archives["labels"], source)
    icons = read_icons(archives["data"])
    found = icons.find(concepts)
    drafts = []
    for concept in concepts:
        name = found.get(concept.hexcode)
        unseen = share(config.seed, "concept", concept.hexcode) < share_unseen
        if name is None or (held_out and unseen):
            continue
        split: Split = "test" if held_out or unseen else "train"
        if split == "train" and share(config.seed, icons.prefix, concept.hexcode) < validation:
            split = "validation"
        question = pick(WORDINGS["name"], config.seed, icons.prefix, concept.hexcode)
        drafts.append(
            Draft(
                original_id=name,
                split=split,
                group="unseen_vendor" if held_out else "unseen_concept" if unseen else "",
                turns=(Turn(question, concept.label),),
                payload={"svg": icons.svg(name)},
                label=concept.group,
                facts={"name": concept.label, "group": concept.group, "vendor": icons.prefix},
            )
        )
    return drafts


def render(payload: dict[str, Any], size: int) -> Image.Image:
    """Rasterize on white."""
    return rasterize(payload["svg"], size)


READER = Reader(
    plan,
    render,
    options={
        "labels": str,
        "groups": list,
        "held_out": bool,
        "unseen_concepts": Share,
        "validation": Share,
    },
    locators=("labels",),
)
