"""Clips: video files in a folder or inside a package, as frames with what is known about their moment.

A clip is named by its path; beside it may lie a transcript (`NAME.srt`, `.vtt`, `.ttml`, `.json`, `.txt`) and
a caption (`NAME.caption`). With a caption, every frame asks for it; without any text a frame is a draft
without turns, for an annotator. Whole clips are held out as the test group `unseen_clips`.

Options:
    frames: `every` (one every `every_s` seconds), `spread` (`number` of them) or `scenes` (one a scene).
    max_frames: Of a clip.
    include: Pattern that paths must match (`usr/share/help/C/*`).
    cues: Ask for the subtitle of the moment too. Only for clips whose subtitles tell what is seen.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import IO, Any

from PIL import Image

from components.config import CurateConfig, SourceConfig
from components.config.video import VideoLimits
from components.curate.archives import members
from components.curate.samples import Draft, Reason, Turn
from components.curate.sources.planning import option, split_of
from components.curate.sources.reader import Reader, Share
from components.curate.video.clips import payload_of
from components.curate.video.files import open_clip
from components.curate.video.frames import decode_frame, times_every, times_of_scenes, times_spread
from components.curate.video.probe import Probe, probe, read_stream
from components.curate.video.transcripts import (
    FORMATS,
    MAX_BYTES,
    Transcript,
    captions_of_page,
    read_transcript,
)
from components.errors import ConfigError

SUFFIXES = frozenset(
    {"mp4", "m4v", "mov", "webm", "mkv", "avi", "ogv", "mpg", "mpeg", "ts", "3gp", "flv", "wmv"}
)
CAPTION = "caption"
QUESTION = "Describe the video that this frame is taken from."
CUE_QUESTION = "What does the caption of the video say at this moment?"
REACH_S = 10.0
"""What is said so long before and after a frame is a fact of it."""
OPTIONS: Mapping[str, type] = {
    "frames": str,
    "every_s": float,
    "number": int,
    "scene_threshold": float,
    "max_frames": int,
    "include": str,
    "cues": bool,
    "unseen_clips": Share,
    "validation": Share,
}
LIMITS = VideoLimits()
NO_TRANSCRIPT = Transcript((), "")


@dataclass(frozen=True)
class _Clip:
    """A clip as it was found, with the texts beside it."""

    original_id: str
    path: Path
    member: str
    found: Probe | Reason
    texts: Mapping[str, bytes]
    """Suffix → content."""
    subtitles: Transcript | None = None
    """From a page that shows the clip."""


@dataclass(frozen=True)
class _Moments:
    """When frames of a clip are taken, and what is known about it."""

    times: tuple[float, ...]
    duration_s: float
    caption: str
    transcript: Transcript
    num_words: int
    """Negative: there is no transcript."""


@dataclass
class _Texts:
    """Texts of an archive or a folder by the name that they share with a clip."""

    beside: dict[str, dict[str, bytes]] = field(default_factory=dict)
    pages: dict[str, Transcript] = field(default_factory=dict)
    """Clip → subtitles from a page."""

    def add(self, name: str, content: bytes) -> None:
        stem, _, suffix = name.rpartition(".")
        if suffix.lower() in (*FORMATS, CAPTION):
            self.beside.setdefault(stem, {})[suffix.lower()] = content
        elif suffix == "page":
            folder = PurePosixPath(name).parent
            for source, transcript in captions_of_page(content.decode("utf-8", "replace")).items():
                self.pages[str(folder / source)] = transcript


def plan(archives: Mapping[str, Path], source: SourceConfig, config: CurateConfig) -> list[Draft]:
    """Frames of every clip, in order of path and time. Reads headers; `frames = "scenes"` decodes.

    Raises:
        ConfigError: `frames` is none of those there are.
    """
    if option(source, "frames", "every") not in ("every", "spread", "scenes"):
        raise ConfigError(
            f"unknown way to choose frames: {source.options['frames']!r}",
            where=f"curate.sources, {source.locator}",
            fix="frames = 'every', 'spread' or 'scenes'",
        )
    root, pattern = archives["data"], option(source, "include", "*")
    clips = (
        _in_folder(root, pattern, config.execution.workers) if root.is_dir() else _in_archive(root, pattern)
    )
    drafts: list[Draft] = []
    for clip in sorted(clips, key=lambda each: each.original_id):
        drafts += _drafts(clip, source, config)
    return drafts


def render(payload: dict[str, Any], size: int) -> Image.Image:
    """The frame, its longer side at most `size` pixels."""
    with open_clip(Path(payload["clip"]), payload["member"]) as file:
        return decode_frame(file, float(payload["at_s"]), size, LIMITS)


def _in_folder(root: Path, pattern: str, workers: int) -> list[_Clip]:
    texts, paths = _Texts(), []
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink() or not path.is_file():
            continue
        if _is_clip(name):
            paths += [path] if fnmatchcase(name, pattern) else []
        elif _is_text(name) and path.stat().st_size <= MAX_BYTES:
            texts.add(name, path.read_bytes())

    def look(path: Path) -> _Clip:
        name = path.relative_to(root).as_posix()
        with path.open("rb") as file:
            return _clip(name, path, "", _probe(file), texts)

    with ThreadPoolExecutor(workers) as pool:  # the work is done by ffmpeg's processes
        return list(pool.map(look, paths))


def _in_archive(path: Path, pattern: str) -> list[_Clip]:
    """Clips of a package. The same file under several names (a manual's languages) is one clip."""
    texts = _Texts()
    first: dict[str, str] = {}
    found: list[tuple[str, Probe | Reason]] = []
    for name, content in members(path):
        if _is_clip(name) and fnmatchcase(name, pattern):
            kept = first.setdefault(hashlib.sha256(content).hexdigest(), name)
            reason = Reason("exact_duplicate", evidence=f"the same file as {kept}")
            found.append((name, _probe_bytes(content) if kept == name else reason))
        elif _is_text(name) and len(content) <= MAX_BYTES:
            texts.add(name, content)
    return [_clip(name, path, name, probed, texts) for name, probed in found]


def _clip(name: str, path: Path, member: str, found: Probe | Reason, texts: _Texts) -> _Clip:
    return _Clip(
        name, path, member, found, texts.beside.get(name.rpartition(".")[0], {}), texts.pages.get(name)
    )


def _is_clip(name: str) -> bool:
    return name.rpartition(".")[2].lower() in SUFFIXES


def _is_text(name: str) -> bool:
    return name.rpartition(".")[2].lower() in (*FORMATS, CAPTION, "page")


def _probe_bytes(content: bytes) -> Probe | Reason:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        return _probe(file)


def _probe(file: IO[bytes]) -> Probe | Reason:
    """The header; where it declares no duration, the packets say it."""
    found = probe(file, LIMITS)
    if isinstance(found, Reason) or found.duration_s:
        return found
    stream = read_stream(file, LIMITS)
    if isinstance(stream, Reason):
        return stream
    return Probe(found.codec, found.width, found.height, found.fps, stream.end_s)


def _drafts(clip: _Clip, source: SourceConfig, config: CurateConfig) -> Iterator[Draft]:
    split = split_of(
        config.seed,
        "clip",
        clip.original_id,
        unseen=option(source, "unseen_clips", 0.1),
        validation=option(source, "validation", 0.05),
    )
    group = "unseen_clips" if split == "test" else ""
    moments = _moments(clip, source)
    if isinstance(moments, Reason):
        failed = {"failed": moments.code, "evidence": moments.evidence}
        yield Draft(clip.original_id, split, group, (), failed)
        return
    for at_s in moments.times:
        facts = {
            "clip": clip.original_id,
            "timestamp_s": f"{at_s:.3f}",
            "duration_s": f"{moments.duration_s:.3f}",
            "caption": moments.caption,
            "said": moments.transcript.around(at_s),
            "said_around": moments.transcript.around(at_s, REACH_S),
        }
        yield Draft(
            original_id=f"{clip.original_id}@{at_s:.3f}",
            split=split,
            group=group,
            turns=_turns(facts, cues=option(source, "cues", False)),
            payload=payload_of(clip.path, clip.member, at_s, moments.num_words),
            facts={name: value for name, value in facts.items() if value},
        )


def _turns(facts: Mapping[str, str], *, cues: bool) -> tuple[Turn, ...]:
    turns = [Turn(QUESTION, facts["caption"])] if facts["caption"] else []
    if cues and facts["said"]:
        turns.append(Turn(CUE_QUESTION, facts["said"]))
    return tuple(turns)


def _moments(clip: _Clip, source: SourceConfig) -> _Moments | Reason:
    """Times and texts; subtitles that run past the end belong to another clip."""
    if isinstance(clip.found, Reason):
        return clip.found
    duration_s = clip.found.duration_s
    transcript = clip.subtitles or NO_TRANSCRIPT
    suffix = next((each for each in FORMATS if each in clip.texts), "")
    if suffix:
        read = read_transcript(clip.texts[suffix], suffix)
        if isinstance(read, Reason):
            return read
        transcript = read
    last = max((cue.end_s for cue in transcript.cues), default=0.0)
    if last > duration_s * 1.05 + 2:
        return Reason(
            "wrong_transcript", evidence=f"subtitles up to {last:.1f} s, clip of {duration_s:.1f} s"
        )
    times = _times(clip, duration_s, source)
    if isinstance(times, Reason):
        return times
    num_words = -1 if transcript is NO_TRANSCRIPT else transcript.num_words
    caption = " ".join(clip.texts.get(CAPTION, b"").decode("utf-8", "replace").split())
    return _Moments(tuple(times), duration_s, caption, transcript, num_words)


def _times(clip: _Clip, duration_s: float, source: SourceConfig) -> list[float] | Reason:
    limit, how = option(source, "max_frames", 60), option(source, "frames", "every")
    if how == "every":
        return times_every(duration_s, option(source, "every_s", 5.0), limit)
    if how == "spread":
        return times_spread(duration_s, min(option(source, "number", 8), limit))
    threshold = option(source, "scene_threshold", 10.0)
    with open_clip(clip.path, clip.member) as file:
        return times_of_scenes(file, duration_s, LIMITS, threshold=threshold, limit=limit)


READER = Reader(plan, render=render, options=OPTIONS)
