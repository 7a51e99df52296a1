"""The contact sheet: what the dataset looks like, and what was rejected, for the report.

Where there is no picture (text alone, or rejected before it was drawn) the frame holds the text or what was
found.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from components.curate.funnel import Rejected
from components.curate.samples import Candidate, Picture

PER_ROW = 8
SIDE = 112
TEXT = 44
"""Pixels below an image for a question and its answer."""
LABEL = 22
LETTERS = 18
"""What fits into the width of a frame."""


def draw_contact_sheet(kept: Sequence[Candidate], rejected: Sequence[Rejected], path: Path) -> None:
    """One row of kept samples per category, spread over the splits, then one row per reject reason."""
    rows: list[tuple[str, list[tuple[Candidate, str]]]] = []
    for category in sorted({candidate.category for candidate in kept}):
        members = [(each, "") for each in kept if each.category == category]
        rows.append((f"kept: {category} ({len(members):,})", _spread(members)))
    for code in sorted({each.reason.code for each in rejected}):
        members = [(each.candidate, each.reason.evidence) for each in rejected if each.reason.code == code]
        rows.append((f"rejected: {code} ({len(members):,})", _spread(members)))
    height = LABEL + SIDE + TEXT
    sheet = Image.new("RGB", (PER_ROW * (SIDE + 8) + 8, max(1, len(rows)) * height), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=10)
    for row, (title, members) in enumerate(rows):
        pen.text((8, row * height + 3), title, fill="black", font=ImageFont.load_default(size=14))
        for column, (candidate, evidence) in enumerate(members):
            corner = (8 + column * (SIDE + 8), row * height + LABEL)
            if candidate.picture:
                sheet.paste(_thumbnail(candidate.picture), corner)
            else:
                found = "\n".join(textwrap.wrap(evidence or _text(candidate), LETTERS, max_lines=8))
                pen.text((corner[0] + 4, corner[1] + 4), found, fill="dimgray", font=font, spacing=1)
            pen.rectangle((corner[0] - 1, corner[1] - 1, corner[0] + SIDE, corner[1] + SIDE), outline="gray")
            pen.text(
                (corner[0], corner[1] + SIDE + 3),
                _caption(candidate),
                fill="black",
                font=font,
                spacing=1,
            )
    sheet.save(path)


def _thumbnail(picture: Picture) -> Image.Image:
    """The picture in the frame, whole; a small one is enlarged without smoothing, to be judged as it is."""
    with Image.open(io.BytesIO(picture.place.read())) as opened:
        image = opened.convert("RGB")
    scale = SIDE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BOX)


def _spread(members: Sequence[tuple[Candidate, str]]) -> list[tuple[Candidate, str]]:
    step = max(1, len(members) // PER_ROW)
    return list(members[::step][:PER_ROW])


def _caption(candidate: Candidate) -> str:
    if not candidate.turns:
        return "(no text)"
    turn = candidate.turns[0]
    lines = (" ".join(each.split()) for each in (turn.question, turn.answer))
    cut = [each if len(each) <= LETTERS else f"{each[: LETTERS - 1]}…" for each in lines]
    return "\n".join([*cut, f"[{candidate.split}]"])


def _text(candidate: Candidate) -> str:
    """What there is to see of a sample without a picture."""
    return " ".join(f"{turn.question} {turn.answer}" for turn in candidate.turns) or "not drawn"
