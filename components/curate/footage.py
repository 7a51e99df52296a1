"""Clips and episodes: judged whole, before any frame of them is decoded for a sample."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from components.artifacts import write_atomic
from components.config import CurateConfig
from components.curate.engines import Engine
from components.curate.funnel import Funnel, Verdicts
from components.curate.plan import Planned
from components.curate.sources.packages.episodes import places_of
from components.curate.video.clips import clip_jobs, clip_verdicts, examine_clip
from components.curate.video.episodes import episode_jobs, episode_verdicts, examine_episodes
from components.curate.video.lerobot import read_lerobot
from components.progress import Bar


def drop_bad_footage(
    funnel: Funnel, engine: Engine, planned: Mapping[str, Planned], config: CurateConfig, logs: Path
) -> None:
    """Frames of clips that are frozen, silent or broken, and of episodes whose streams do not agree."""
    drafts = [planned[each.key].task.draft for each in funnel.kept]
    jobs = clip_jobs(drafts)
    roots = _episode_roots(funnel, planned)
    if not jobs and not roots:
        return
    reports: list[Any] = []
    verdicts: Verdicts = {}
    if jobs:
        with Bar("clips", total=len(jobs), unit="clips") as bar:
            for report in engine.map(partial(examine_clip, wanted=config.video), jobs):
                reports.append(report)
                bar.advance()
        verdicts |= clip_verdicts(drafts, reports, config.video)
    for root, places in roots.items():
        known = []
        for found in engine.map(
            partial(examine_episodes, wanted=config.episodes), episode_jobs(read_lerobot(Path(root)))
        ):
            known += found
        own = episode_verdicts(places_of([drafts[place] for place in places]), known)
        verdicts |= {places[position]: reason for position, reason in own.items()}
        reports += known
    told = sorted((asdict(each) for each in reports), key=lambda row: json.dumps(row, sort_keys=True))
    write_atomic(logs / "clips.json", json.dumps(told, indent=1))
    funnel.apply("video", lambda _: verdicts)


def _episode_roots(funnel: Funnel, planned: Mapping[str, Planned]) -> dict[str, list[int]]:
    """Root of each LeRobot dataset → positions of its frames."""
    roots: dict[str, list[int]] = {}
    for place, each in enumerate(funnel.kept):
        own = planned[each.key]
        if own.task.reader == "episodes":
            roots.setdefault(str(own.path), []).append(place)
    return roots
