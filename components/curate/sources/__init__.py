"""Sources: every kind of raw data behind one interface, one module each.

A reader has pure halves: `plan` lists drafts (split, group, text) from what was fetched, cheap and in a
fixed order; `load` gives the encoded image of one draft, or `render` draws it. To add a kind of source,
write the two and list it here.
"""

from __future__ import annotations

from collections.abc import Mapping

from components.curate.sources.files import folder, hub, webdataset
from components.curate.sources.geography import flags, maps
from components.curate.sources.packages import (
    arc,
    clipart,
    clips,
    counting,
    digits,
    easy_vqa,
    emoji,
    episodes,
    fashion,
    screenshots,
    tables,
)
from components.curate.sources.reader import Archives, Reader, Share
from components.curate.sources.texts import reader as texts
from components.curate.sources.urls import reader as urls

__all__ = ["READERS", "Archives", "Reader", "Share"]

READERS: Mapping[str, Reader] = {
    "arc": arc.READER,
    "clipart": clipart.READER,
    "clips": clips.READER,
    "counting": counting.READER,
    "digits": digits.READER,
    "easy_vqa": easy_vqa.READER,
    "emoji": emoji.READER,
    "episodes": episodes.READER,
    "fashion": fashion.READER,
    "flags": flags.READER,
    "folder": folder.READER,
    "hub": hub.READER,
    "maps": maps.READER,
    "screenshots": screenshots.READER,
    "tables": tables.READER,
    "texts": texts.READER,
    "urls": urls.READER,
    "webdataset": webdataset.READER,
}
