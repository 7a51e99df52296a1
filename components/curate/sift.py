"""The funnel's filters in their order, cheapest first; its checks decode nothing twice.

header → clips and episodes → exact copies → text → one decode → duplicates and leaks → safety → alignment
→ annotation → diversity

Only annotators and labellers load a picture again, where they are asked about it: what is delivered may be
too small to be read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from components.config import CurateConfig
from components.curate.clones import drop_duplicates
from components.curate.duplicates.perceptual import THUMB_BYTES, gray_of, hash_images
from components.curate.engines import Engine
from components.curate.enrich import add_annotations, balance_labels
from components.curate.examine import Delivery, examine_all, read_headers
from components.curate.filters import find_exact_copies
from components.curate.footage import drop_bad_footage
from components.curate.funnel import Funnel, Verdicts
from components.curate.models import drop_misaligned, drop_unsafe, wants_pixels
from components.curate.plan import Plan, Planned
from components.curate.samples import Reason
from components.curate.schemes import source_id
from components.curate.text import redact_turns, screen_texts
from components.gates.result import GateResult


def sift(
    engine: Engine, plan: Plan, config: CurateConfig, scratch: Path, logs: Path
) -> tuple[Funnel, list[GateResult]]:
    """Everything that was planned through every filter; and what the filters themselves are gated by.

    Args:
        scratch: Where finished chunks lie, for a run that continues.
        logs: Where filters leave what people look at (clips, annotations, reviews, balance).
    """
    planned = {each.task.key: each for each in plan.samples}
    funnel = Funnel([each.candidate for each in plan.samples])
    gates: list[GateResult] = []
    look_at_headers(funnel, engine, planned, config, scratch / "headers")
    drop_bad_footage(funnel, engine, planned, config, logs)
    funnel.apply("exact_copy", find_exact_copies)
    _texts(funnel, planned, config)
    decode_pictures(funnel, engine, planned, config, scratch / "decoded")
    drop_duplicates(funnel, config.duplicates)
    features = drop_unsafe(funnel, engine, config, scratch / "safety")
    drop_misaligned(funnel, config, features)
    gates += add_annotations(funnel, planned, config, logs / "annotate")
    gates += balance_labels(funnel, planned, config, features, logs)
    return funnel, gates


def look_at_headers(
    funnel: Funnel, engine: Engine, planned: Mapping[str, Planned], config: CurateConfig, directory: Path
) -> None:
    """What the encoded pictures are; a sample that its reader could not read ends here too.

    A picture whose name says another format than its content is kept; the notes count them by source.
    """
    places = [
        place
        for place, each in enumerate(funnel.kept)
        if planned[each.key].task.encoded or "failed" in planned[each.key].task.draft.payload
    ]
    tasks = [planned[funnel.kept[place].key].task for place in places]
    headers, seconds = read_headers(engine, tasks, config.images, directory)
    verdicts: Verdicts = {}
    for place, header in zip(places, headers, strict=True):
        if isinstance(header, Reason):
            verdicts[place] = header
        else:
            funnel.kept[place] = replace(funnel.kept[place], header=header)
    misnamed = Counter(each.source for each in funnel.kept if each.header and each.header.misnamed)
    if misnamed:
        funnel.notes["misnamed"] = dict(sorted(misnamed.items()))
    funnel.apply("header", lambda _: verdicts, spent=seconds)


def _texts(funnel: Funnel, planned: Mapping[str, Planned], config: CurateConfig) -> None:
    """What the texts alone say, after personal data was blanked where a source asks for that."""
    filters = {source_id(source): source.text for source in config.sources}
    named = [source_id(planned[each.key].source) for each in funnel.kept]
    for place, (candidate, name) in enumerate(zip(funnel.kept, named, strict=True)):
        turns = redact_turns(candidate.turns, filters[name])
        if turns != candidate.turns:
            funnel.kept[place] = replace(candidate, turns=turns)
    screening = screen_texts(
        [(name, each.turns) for name, each in zip(named, funnel.kept, strict=True)],
        filters,
        may_be_empty=filters if config.annotate else (),
    )
    seconds = sum(step.seconds for step in screening.steps)
    funnel.text_steps = [asdict(step) for step in screening.steps]
    funnel.apply("text", lambda _: screening.problems, spent=seconds)


def decode_pictures(
    funnel: Funnel, engine: Engine, planned: Mapping[str, Planned], config: CurateConfig, directory: Path
) -> None:
    """One decode of every picture that is left, with all that is measured on pixels."""
    places = [place for place, each in enumerate(funnel.kept) if each.has_image]
    tasks = [
        replace(planned[each.key].task, keep_pixels=wants_pixels(each, config))
        for each in (funnel.kept[place] for place in places)
    ]
    pictures, seconds = examine_all(engine, tasks, Delivery.of(config), directory)
    verdicts: Verdicts = {}
    sound = []
    for place, picture in zip(places, pictures, strict=True):
        if isinstance(picture, Reason):
            verdicts[place] = picture
        else:
            funnel.kept[place] = replace(funnel.kept[place], picture=picture)
            sound.append((place, picture.thumbnail))
    thumbs = np.frombuffer(b"".join(each for _, each in sound), np.uint8).reshape(len(sound), THUMB_BYTES)
    for (place, _), phash in zip(sound, hash_images(gray_of(thumbs)).tolist(), strict=True):
        funnel.kept[place] = replace(funnel.kept[place], phash=f"{phash:016x}")
    funnel.apply("pixels", lambda _: verdicts, spent=seconds)
