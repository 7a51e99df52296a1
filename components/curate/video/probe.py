"""What a clip is and whether it holds what it declares: opened, every packet listed, points of it decoded.

ffprobe is not at hand, so ffmpeg's own header lines are parsed, and its `framecrc` output, which lists the
time of every packet without decoding one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from components.config.video import VideoLimits
from components.curate.samples import Reason
from components.curate.video.ffmpeg import Finished, run_at, run_ffmpeg

# Header lines are indented by two spaces; tags of the file, which anyone may write, by more.
DURATION = re.compile(r"^  Duration: (?:(\d+):(\d\d):(\d\d\.\d+)|N/A)", re.MULTILINE)
STREAM = re.compile(
    r"^  Stream #\d+:\d+.*?: Video: (?!.*\(attached pic\))(\w+).*?, (\d+)x(\d+)(.*)$", re.MULTILINE
)
RATE = re.compile(r", ([\d.]+)(k?) fps")
BROKEN = (
    "partial file",
    "truncat",
    "unexpected end",
    "ended prematurely",
    "packet corrupt",
    "packet mismatch",
)
"""What demuxers say about a file that ends early."""
GUESSED = "Estimating duration from bitrate"
"""What ffmpeg says where the duration that it prints is a guess."""
VIDEO = "0:V:0"
"""The first video stream that is no cover picture."""
MAX_LISTING = 64 << 20
"""Bytes: a packet takes some 60, and a million of them are nine hours."""
NO_TIME = -(1 << 62)
"""Below it lies what ffmpeg writes for a time that is not known."""
TINY = ("-frames:v", "1", "-vf", "scale=16:16,format=gray", "-f", "rawvideo", "pipe:1")
LAST_S = 1.0
"""The last point that is sought lies this far before the end: players round."""


@dataclass(frozen=True)
class Probe:
    """What the header of a file declares about its picture."""

    codec: str
    width: int
    height: int
    fps: float
    """0 where the rate varies or is not declared."""
    duration_s: float
    """0 where it is not declared."""


@dataclass(frozen=True)
class Stream:
    """Probe and packets of the video stream."""

    probe: Probe
    times: tuple[float, ...]
    """Presentation time of every packet in seconds, in order."""
    end_s: float
    """Where the last packet ends."""
    log: str


def probe(file: IO[bytes], limits: VideoLimits) -> Probe | Reason:
    """The header alone: reads a few kilobytes.

    Reason codes: `cannot_open`, `no_video_stream`, `timeout`.
    """
    return _parse(run_ffmpeg(file, (), limits))


def read_stream(file: IO[bytes], limits: VideoLimits) -> Stream | Reason:
    """List every packet of the video without decoding one: reads the file once.

    Reason codes: those of `probe`, and `too_large`, `too_many_pixels`, `too_long`.
    """
    size = file.seek(0, 2)
    if size > limits.max_bytes:
        return Reason("too_large", evidence=f"{size} bytes")
    arguments = ("-map", VIDEO, "-c", "copy", "-f", "framecrc", "pipe:1")
    done = run_ffmpeg(file, arguments, limits, max_output=MAX_LISTING)
    found = _parse(done)
    if isinstance(found, Reason):
        return found
    if found.width * found.height > limits.max_pixels:
        return Reason("too_many_pixels", evidence=f"{found.width}x{found.height}")
    if found.duration_s > limits.max_duration_s:
        return Reason("too_long", evidence=f"{found.duration_s:.0f} s")
    if done.problem:
        return Reason("too_long", evidence="too many frames to list")
    times, end_s = _packets(done.stdout)
    if not times:
        return Reason("cannot_open", evidence=f"no frame: {done.last_error}")
    return Stream(found, times, end_s, done.log)


def _parse(done: Finished) -> Probe | Reason:
    if done.problem == "timeout":
        return Reason("timeout", evidence="while it was opened")
    duration = DURATION.search(done.log)
    if duration is None:
        return Reason("cannot_open", evidence=done.last_error)
    stream = STREAM.search(done.log)
    if stream is None:
        return Reason("no_video_stream", evidence=duration.group().strip())
    rate = RATE.search(stream.group(4))
    hours, minutes, seconds = (float(part or 0) for part in duration.groups())
    declared = 0.0 if GUESSED in done.log else hours * 3600 + minutes * 60 + seconds
    return Probe(
        codec=stream.group(1),
        width=int(stream.group(2)),
        height=int(stream.group(3)),
        fps=float(rate.group(1)) * (1000 if rate.group(2) else 1) if rate else 0.0,
        duration_s=declared,
    )


def _packets(listing: bytes) -> tuple[tuple[float, ...], float]:
    """Times of the packets and the end of the last: lines of `stream, dts, pts, duration, size, crc`.

    AVI and MPEG do not say when a frame is shown; there the time of decoding serves, and where that is
    missing too, the end of the frame before.
    """
    base, end = 0.0, 0.0
    times = []
    for line in listing.decode("ascii", "replace").splitlines():
        if line.startswith("#tb 0: "):
            numerator, _, denominator = line.removeprefix("#tb 0: ").partition("/")
            base = int(numerator) / int(denominator)
        elif not line.startswith("#"):
            decoded, shown, lasts = (int(field) for field in line.split(",")[1:4])
            known = [time for time in (shown, decoded) if time > NO_TIME]
            start = known[0] * base if known else end
            times.append(start)
            end = max(end, start + max(lasts, 0) * base)
    return tuple(sorted(times)), end


def check_stream(stream: Stream, *, max_missing: float, min_duration_s: float) -> Reason | None:
    """Whether the packets are what the header declares.

    Reason codes: `too_short`, `truncated`, `wrong_duration`.
    """
    length = stream.end_s - stream.times[0]
    declared = stream.probe.duration_s
    broken = next(
        (line for line in stream.log.splitlines() if any(word in line.lower() for word in BROKEN)), ""
    )
    slack = max(max_missing * declared, 0.5)
    if declared and length < declared - slack:
        said = f", {broken.rpartition('] ')[2].strip()}" if broken else ""
        return Reason("truncated", evidence=f"{length:.1f} of {declared:.1f} s{said}"[:200])
    if declared and length > declared + slack:
        return Reason("wrong_duration", evidence=f"{declared:.1f} s declared, {length:.1f} s found")
    if length < min_duration_s:
        return Reason("too_short", evidence=f"{length:.2f} s")
    return None


def check_seeks(file: IO[bytes], points: Sequence[float], limits: VideoLimits) -> Reason | None:
    """Whether a frame can be found and decoded at every point (seconds).

    Reason codes: `cannot_seek`, `timeout`.
    """
    for point in points:
        done = run_at(file, point, ("-map", VIDEO, *TINY), limits)
        if done.problem:
            return Reason("timeout", evidence=f"while seeking {point:.1f} s")
        if len(done.stdout) != 256:
            return Reason("cannot_seek", evidence=f"no frame at {point:.1f} s: {done.last_error}"[:200])
    return None


def seek_points(times: Sequence[float], end_s: float, number: int) -> tuple[float, ...]:
    """Just before frames that are spread over a stream, the last near its end."""
    last = max((place for place, time in enumerate(times) if time <= end_s - LAST_S), default=0)
    places = [last] if number == 1 else [last * step // (number - 1) for step in range(number)]
    return tuple(max(times[place] - 0.001, 0.0) for place in dict.fromkeys(places))
