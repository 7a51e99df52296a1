"""Frames of a clip: at which times they are taken, and the pictures themselves."""

from __future__ import annotations

import io
import re
from itertools import pairwise
from typing import IO

from PIL import Image

from components.config.video import VideoLimits
from components.curate.samples import Reason
from components.curate.video.ffmpeg import run_at, run_ffmpeg
from components.curate.video.probe import VIDEO

SCENE = re.compile(r"lavfi\.scd\.time: ([\d.]+)")
SCENE_SIDE = 160
"""Scene changes are looked for on pictures of this width."""


def times_every(duration_s: float, step_s: float, limit: int) -> list[float]:
    """The middle of every `step_s` seconds, at most `limit` of them, spread evenly."""
    number = max(int(duration_s / step_s), 1)
    return times_spread(duration_s, min(number, limit))


def times_spread(duration_s: float, number: int) -> list[float]:
    """The middles of `number` equal parts: the first and the last frame of a clip are often black."""
    return [round((place + 0.5) * duration_s / number, 3) for place in range(number)]


def times_of_scenes(
    file: IO[bytes], duration_s: float, limits: VideoLimits, *, threshold: float, limit: int
) -> list[float] | Reason:
    """The middle of every scene, of the longest ones where there are more than `limit`. Decodes the clip.

    Args:
        threshold: Of ffmpeg's `scdet`: 0 to 100, 8 to 14 is usual.
    """
    graph = f"scale={SCENE_SIDE}:-2,scdet=threshold={threshold}"
    done = run_ffmpeg(file, ("-map", VIDEO, "-vf", graph, "-f", "null", "-"), limits)
    if done.problem:
        return Reason("timeout", evidence="while scenes were looked for")
    cuts = [0.0, *(float(text) for text in SCENE.findall(done.log)), duration_s]
    scenes = sorted(pairwise(cuts), key=lambda scene: scene[0] - scene[1])[:limit]
    return [round((start + end) / 2, 3) for start, end in sorted(scenes) if end > start]


def decode_frame(file: IO[bytes], at_s: float, side: int, limits: VideoLimits) -> Image.Image:
    """The first frame at or after a time, brought by ffmpeg to at most `side` pixels, as square pixels.

    Raises:
        ValueError: there is no such frame, or it does not decode.
    """
    scale = f"min(1,{side}/max(iw*sar,ih))"
    graph = (
        f"scale=w='max(1,round(iw*sar*{scale}))':h='max(1,round(ih*{scale}))'"
        ":flags=bicubic+accurate_rnd+full_chroma_int+bitexact,setsar=1,format=rgb24"
    )
    arguments = ("-map", VIDEO, "-frames:v", "1", "-vf", graph, "-c:v", "ppm", "-f", "image2pipe", "pipe:1")
    done = run_at(file, at_s, arguments, limits, max_output=3 * (side + 1) ** 2 + 64)
    if done.problem or not done.stdout:
        raise ValueError(f"no frame at {at_s:.3f} s: {done.problem or done.last_error}")
    return Image.open(io.BytesIO(done.stdout)).convert("RGB")
