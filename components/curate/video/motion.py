"""What one decode of a whole clip tells: where it stands still, what it looks like over time, what is broken.

Standing still is what ffmpeg's `freezedetect` calls so. The segments are those of FineVideo: 60 seconds, of
which one that is frozen for 40% or more is out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from components.config.video import VideoFilter
from components.curate.samples import Reason
from components.curate.video.ffmpeg import run_ffmpeg
from components.curate.video.probe import VIDEO

Interval = tuple[float, float]
EVENT = re.compile(r"lavfi\.freezedetect\.freeze_(start|end): ([\d.]+)")
DECODED = re.compile(r"(\d+) frames decoded")
SIDE, RATE = 16, 2
"""Side of the thumbnails in pixels, and how many of them there are for a second."""


@dataclass(frozen=True)
class Motion:
    frozen: tuple[Interval, ...]
    """Start and end in seconds."""
    num_decoded: int
    thumbs_THW: Any
    """Luminance of the clip, `RATE` pictures a second, `SIDE` × `SIDE`; uint8."""

    def thumb(self, at_s: float) -> np.ndarray[Any, np.dtype[np.uint8]] | None:
        """The thumbnail nearest to a time; None where nothing was decoded."""
        if not len(self.thumbs_THW):
            return None
        place = min(max(round(at_s * RATE), 0), len(self.thumbs_THW) - 1)
        thumb: np.ndarray[Any, np.dtype[np.uint8]] = self.thumbs_THW[place]
        return thumb


def watch(file: IO[bytes], end_s: float, wanted: VideoFilter) -> Motion | Reason:
    """Decode the clip once. Damaged frames are dropped, not mended, so that they can be counted.

    Reason codes: `timeout`, `too_long`.
    """
    graph = (
        f"freezedetect=n={wanted.freeze_noise}:d={wanted.freeze_s},fps={RATE},scale={SIDE}:{SIDE}:flags=area"
    )
    done = run_ffmpeg(
        file,
        ("-map", VIDEO, "-vf", f"{graph},format=gray", "-f", "rawvideo", "pipe:1"),
        wanted.limits,
        before=("-err_detect", "explode"),
        log_level="verbose",
        max_output=int(wanted.limits.max_duration_s * RATE + 2) * SIDE * SIDE,
    )
    if done.problem:
        code = "timeout" if done.problem == "timeout" else "too_long"
        return Reason(code, evidence="while it was decoded")
    decoded = DECODED.findall(done.log)
    whole = len(done.stdout) // (SIDE * SIDE) * SIDE * SIDE
    thumbs = np.frombuffer(done.stdout[:whole], np.uint8).reshape(-1, SIDE, SIDE)
    return Motion(_intervals(done.log, end_s), int(decoded[-1]) if decoded else 0, thumbs)


def _intervals(log: str, end_s: float) -> tuple[Interval, ...]:
    """Pairs of start and end. A clip that ends frozen has no last end; a keyframe, which is coded anew, ends
    a stretch and begins the next: those are one."""
    intervals: list[Interval] = []
    start = -1.0
    for kind, text in [*EVENT.findall(log), ("end", str(end_s))]:
        if kind == "start":
            start = float(text)
        elif start >= 0:
            if intervals and intervals[-1][1] == start:
                start = intervals.pop()[0]
            intervals.append((start, float(text)))
            start = -1.0
    return tuple(intervals)


def frozen_shares(frozen: Sequence[Interval], end_s: float, segment_s: float) -> tuple[float, ...]:
    """Share of every segment's time in which the picture stands still.

    A last segment that is shorter than a tenth of the others counts with the one before it.
    """
    starts = [0.0]
    while end_s - starts[-1] - segment_s > 0.1 * segment_s:
        starts.append(starts[-1] + segment_s)
    shares = []
    for start, end in zip(starts, [*starts[1:], max(end_s, 1e-9)], strict=True):
        still = sum(max(0.0, min(end, stop) - max(start, begin)) for begin, stop in frozen)
        shares.append(min(still / (end - start), 1.0))
    return tuple(shares)


def segment_of(at_s: float, num_segments: int, segment_s: float) -> int:
    return min(int(at_s // segment_s), num_segments - 1)


def unchanged(motion: Motion, times: Sequence[float], min_change: float) -> dict[int, float]:
    """Positions of sampled times whose picture is nearly that of the kept one before → that one's time."""
    found: dict[int, float] = {}
    kept_time = 0.0
    kept: np.ndarray[Any, np.dtype[np.uint8]] | None = None
    for place, time in enumerate(times):
        thumb = motion.thumb(time)
        if thumb is None:
            continue
        if kept is not None and float(np.abs(thumb.astype(np.int16) - kept).mean()) / 255 < min_change:
            found[place] = kept_time
        else:
            kept_time, kept = time, thumb
    return found
