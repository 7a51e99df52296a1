"""The funnel of clips: every clip is examined once, and every frame sampled from it gets its verdict.

jobs = clip_jobs(drafts)
reports = [examine_clip(job, wanted) for job in jobs]        # anywhere, in any order
verdicts = clip_verdicts(drafts, reports, wanted)            # position → reason
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from components.config.video import VideoFilter
from components.curate.samples import Draft, Reason
from components.curate.video.files import open_clip
from components.curate.video.motion import Interval, frozen_shares, segment_of, unchanged, watch
from components.curate.video.probe import check_seeks, check_stream, read_stream, seek_points


@dataclass(frozen=True, order=True)
class ClipJob:
    """A clip that is to be examined, and the times (seconds) at which frames are taken from it."""

    path: str
    member: str
    """Its name where `path` is an archive."""
    times: tuple[float, ...]
    num_words: int
    """Of its transcript; negative: there is none."""


@dataclass(frozen=True)
class ClipReport:
    """What was found; every value is one that JSON knows."""

    path: str
    member: str
    code: str = ""
    """Why the whole clip is out; empty: it is not."""
    evidence: str = ""
    codec: str = ""
    width: int = 0
    height: int = 0
    fps: float = 0.0
    duration_s: float = 0.0
    num_frames: int = 0
    words_per_s: float = -1.0
    """Negative: there is no transcript."""
    frozen: tuple[Interval, ...] = ()
    frozen_shares: tuple[float, ...] = ()
    """Of every segment."""
    unchanged: tuple[tuple[float, float], ...] = ()
    """Sampled time → time of the sampled frame before that looks the same."""


def payload_of(path: Path, member: str, at_s: float, num_words: int = -1) -> dict[str, Any]:
    """What a draft of a frame carries: where its clip lies, and when it is taken."""
    return {"clip": str(path), "member": member, "at_s": at_s, "num_words": num_words}


def clip_jobs(drafts: Iterable[Draft]) -> list[ClipJob]:
    """The clips that drafts take frames from, each once; drafts of other kinds are passed over."""
    times: dict[tuple[str, str, int], set[float]] = {}
    for draft in drafts:
        clip = _clip(draft)
        if clip is not None:
            key = (*clip, int(draft.payload["num_words"]))
            times.setdefault(key, set()).add(float(draft.payload["at_s"]))
    return [ClipJob(path, member, tuple(sorted(ats)), words) for (path, member, words), ats in times.items()]


def _clip(draft: Draft) -> tuple[str, str] | None:
    payload = draft.payload
    return (str(payload["clip"]), str(payload["member"])) if "clip" in payload else None


def examine_clip(job: ClipJob, wanted: VideoFilter) -> ClipReport:
    """Open, list, seek and decode one clip; a bad one ends with a code, never with an exception.

    Codes: those of `probe.read_stream`, `check_stream`, `check_seeks` and `motion.watch`, and `unreadable`,
    `word_density`, `no_transcript`, `damaged`, `frozen`.
    """
    report = ClipReport(job.path, job.member)
    try:
        with open_clip(Path(job.path), job.member) as file:
            return _examine(file, job, report, wanted)
    except OSError as error:
        return replace(report, code="unreadable", evidence=str(error)[:200])


def _examine(file: IO[bytes], job: ClipJob, report: ClipReport, wanted: VideoFilter) -> ClipReport:
    stream = read_stream(file, wanted.limits)
    if isinstance(stream, Reason):
        return _out(report, stream)
    found = stream.probe
    report = replace(
        report,
        codec=found.codec,
        width=found.width,
        height=found.height,
        fps=found.fps,
        duration_s=round(stream.end_s, 3),
        num_frames=len(stream.times),
        words_per_s=round(job.num_words / stream.end_s, 3) if job.num_words >= 0 and stream.end_s else -1.0,
    )
    reason = (
        check_stream(stream, max_missing=wanted.max_missing, min_duration_s=wanted.min_duration_s)
        or check_words(report.words_per_s, wanted)
        or check_seeks(file, seek_points(stream.times, stream.end_s, wanted.seeks), wanted.limits)
    )
    if reason is not None:
        return _out(report, reason)
    motion = watch(file, stream.end_s, wanted)
    if isinstance(motion, Reason):
        return _out(report, motion)
    shares = frozen_shares(motion.frozen, stream.end_s, wanted.segment_s)
    same = unchanged(motion, job.times, wanted.min_change)
    report = replace(
        report,
        frozen=motion.frozen,
        frozen_shares=tuple(round(share, 4) for share in shares),
        unchanged=tuple((job.times[place], like) for place, like in same.items()),
    )
    missing = len(stream.times) - motion.num_decoded
    if missing > wanted.max_missing * len(stream.times):
        return _out(
            report, Reason("damaged", evidence=f"{missing} of {len(stream.times)} frames do not decode")
        )
    if min(shares) >= wanted.max_frozen:
        return _out(report, Reason("frozen", evidence=f"still for {_percent(shares)} of its segments"))
    return report


def check_words(words_per_s: float, wanted: VideoFilter) -> Reason | None:
    """Whether enough is said in a clip.

    Reason codes: `no_transcript`, `word_density`.
    """
    if words_per_s < 0:
        missing = wanted.without_transcript == "reject" and wanted.min_words_per_s > 0
        return Reason("no_transcript") if missing else None
    if words_per_s < wanted.min_words_per_s:
        return Reason("word_density", evidence=f"{words_per_s:.2f} words/s")
    return None


def clip_verdicts(
    drafts: Sequence[Draft], reports: Iterable[ClipReport], wanted: VideoFilter
) -> dict[int, Reason]:
    """Position of a draft → why its frame is out: with its clip, its segment, or alone.

    Reason codes: those of the report, and `frozen`, `no_frame`, `unchanged_frame`.
    """
    known = {(report.path, report.member): report for report in reports}
    verdicts: dict[int, Reason] = {}
    for place, draft in enumerate(drafts):
        clip = _clip(draft)
        if clip is not None:
            reason = _verdict(float(draft.payload["at_s"]), known[clip], wanted)
            if reason is not None:
                verdicts[place] = reason
    return verdicts


def _verdict(at_s: float, report: ClipReport, wanted: VideoFilter) -> Reason | None:
    if report.code:
        return Reason(report.code, evidence=report.evidence)
    if at_s >= report.duration_s:
        return Reason("no_frame", evidence=f"{at_s:.1f} s of {report.duration_s:.1f} s")
    segment = segment_of(at_s, len(report.frozen_shares), wanted.segment_s)
    share = report.frozen_shares[segment]
    if share >= wanted.max_frozen:
        return Reason("frozen", evidence=f"still for {share:.0%} of segment {segment + 1}")
    like: Mapping[float, float] = dict(report.unchanged)
    if at_s in like:
        return Reason("unchanged_frame", evidence=f"as at {like[at_s]:.1f} s")
    return None


def _out(report: ClipReport, reason: Reason) -> ClipReport:
    return replace(report, code=reason.code, evidence=reason.evidence)


def _percent(shares: Sequence[float]) -> str:
    return ", ".join(f"{share:.0%}" for share in shares[:8])
