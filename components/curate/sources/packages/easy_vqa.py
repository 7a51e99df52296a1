"""easy-VQA (pypi `easy-vqa`): drawn shapes with questions, in its official split.

The questions of one image become the turns of one sample. Validation is carved from the official
training split by image, so that no image is on both sides.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from components.config import CurateConfig, SourceConfig
from components.curate.samples import Draft, Split, Turn, share
from components.curate.sources.reader import Reader, Share

ROOT = "easy_vqa/data"
SHAPES = frozenset({"rectangle", "circle", "triangle"})
COLOURS = frozenset({"red", "green", "blue", "black", "gray", "teal", "brown", "yellow"})


def plan(archives: Mapping[str, Path], source: SourceConfig, config: CurateConfig) -> list[Draft]:
    """All images of the official train and test splits, with all their questions."""
    validation = float(source.options.get("validation", 0.05))  # type: ignore[arg-type]
    drafts = []
    with zipfile.ZipFile(archives["data"]) as wheel:
        for official in ("train", "test"):
            turns = defaultdict[int, list[Turn]](list)
            for question, answer, image in json.loads(wheel.read(f"{ROOT}/{official}/questions.json")):
                turns[image].append(Turn(_sentence(question), answer))
            for image in sorted(turns):
                split: Split = "test" if official == "test" else "train"
                if split == "train" and share(config.seed, "easy_vqa", str(image)) < validation:
                    split = "validation"
                facts = _facts(turns[image])
                drafts.append(
                    Draft(
                        original_id=f"{official}/{image}",
                        split=split,
                        group="official_test" if split == "test" else "",
                        turns=tuple(dict.fromkeys(turns[image])),
                        payload={"image": wheel.read(f"{ROOT}/{official}/images/{image}.png")},
                        label=facts.get("shape", ""),
                        facts=facts,
                    )
                )
    return drafts


def load(payload: dict[str, Any]) -> bytes:
    """The PNG as the package holds it."""
    content = payload["image"]
    assert isinstance(content, bytes)
    return content


def _facts(turns: Iterable[Turn]) -> dict[str, str]:
    """Shape and colour, as far as the package's questions and answers say them."""
    open_ones = [turn for turn in turns if turn.answer not in ("yes", "no")]
    words = {word for turn in open_ones for word in (*re.findall("[a-z]+", turn.question), turn.answer)}
    found = {"shape": words & SHAPES, "colour": words & COLOURS}
    return {fact: values.pop() for fact, values in found.items() if len(values) == 1}


def _sentence(question: str) -> str:
    return question[:1].upper() + question[1:]


READER = Reader(plan, load=load, options={"validation": Share})
