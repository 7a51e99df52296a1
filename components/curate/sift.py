"""The funnel's filters in their order, cheapest first; nothing is decoded twice.

header → exact copies → text → one decode → same pixels → near duplicates → decontamination
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from components.config import CurateConfig
from components.curate.duplicates.perceptual import hash_images
from components.curate.engines import Engine
from components.curate.examine import Delivery, examine_all, read_headers
from components.curate.filters import find_exact_duplicates, find_leaks, find_near_duplicates
from components.curate.funnel import Funnel, Verdicts
from components.curate.plan import Plan, Planned
from components.curate.samples import Candidate, Reason
from components.curate.schemes import source_id
from components.curate.text import find_text_problems


def sift(engine: Engine, plan: Plan, config: CurateConfig, scratch: Path) -> Funnel:
    """Everything that was planned through every filter.

    Args:
        scratch: Where finished chunks lie, for a run that continues.
    """
    planned = {each.task.key: each for each in plan.samples}
    funnel = Funnel([each.candidate for each in plan.samples])
    _headers(funnel, engine, planned, config, scratch / "headers")
    funnel.apply("exact_copy", lambda items: find_exact_duplicates(items, _source_sha256))
    funnel.apply("text", lambda items: _text_problems(items, planned, config))
    _decode(funnel, engine, planned, config, scratch / "decoded")
    funnel.apply(
        "exact_duplicate", lambda items: find_exact_duplicates(items, lambda each: each.image_sha256)
    )
    funnel.apply("near_duplicate", lambda items: find_near_duplicates(items, config.phash_distance))
    funnel.apply("decontamination", lambda items: find_leaks(items, config.phash_distance))
    return funnel


def _source_sha256(candidate: Candidate) -> str:
    return candidate.header.sha256 if candidate.header else ""


def _headers(
    funnel: Funnel, engine: Engine, planned: Mapping[str, Planned], config: CurateConfig, directory: Path
) -> None:
    """What the encoded pictures are; a sample that its reader could not read ends here too."""
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
    funnel.apply("header", lambda _: verdicts, spent=seconds)


def _text_problems(
    items: Sequence[Candidate], planned: Mapping[str, Planned], config: CurateConfig
) -> Verdicts:
    filters = {source_id(source): source.text for source in config.sources}
    return find_text_problems([(source_id(planned[each.key].source), each.turns) for each in items], filters)


def _decode(
    funnel: Funnel, engine: Engine, planned: Mapping[str, Planned], config: CurateConfig, directory: Path
) -> None:
    """One decode of every picture that is left, with all that is measured on pixels."""
    places = [place for place, each in enumerate(funnel.kept) if each.has_image]
    tasks = [planned[funnel.kept[place].key].task for place in places]
    pictures, seconds = examine_all(engine, tasks, Delivery.of(config), directory)
    verdicts: Verdicts = {}
    sound = []
    for place, picture in zip(places, pictures, strict=True):
        if isinstance(picture, Reason):
            verdicts[place] = picture
        else:
            funnel.kept[place] = replace(funnel.kept[place], picture=picture)
            sound.append((place, picture.gray))
    for (place, _), phash in zip(sound, hash_images([gray for _, gray in sound]), strict=True):
        funnel.kept[place] = replace(funnel.kept[place], phash=phash)
    funnel.apply("pixels", lambda _: verdicts, spent=seconds)
