"""Makes clips of a few seconds with ffmpeg: moving, frozen, cut off, and what is no clip at all."""

from __future__ import annotations

import re
import struct
import subprocess
from pathlib import Path

from components.config.video import VideoLimits
from components.curate.video.ffmpeg import ffmpeg

FPS, WIDTH, HEIGHT = 10, 64, 48
LIMITS = VideoLimits(timeout_s=60)
MOVING = f"testsrc2=size={WIDTH}x{HEIGHT}:rate={FPS}"


def make_clip(
    path: Path, seconds: float, *, source: str = MOVING, graph: str = "null", options: tuple[str, ...] = ()
) -> Path:
    """A clip of a source of lavfi; a keyframe each second, so that seeking has where to go."""
    command = [ffmpeg(), "-nostdin", "-loglevel", "error", "-y", "-f", "lavfi", "-i", source]
    command += ["-t", str(seconds), "-vf", graph, "-g", str(FPS), "-threads", "1", "-pix_fmt", "yuv420p"]
    codec = (
        ("-c:v", "libvpx", "-deadline", "realtime") if path.suffix == ".webm" else ("-preset", "ultrafast")
    )
    subprocess.run([*command, *codec, *options, str(path)], check=True)
    return path


def make_frozen(path: Path, moving_s: float, frozen_s: float) -> Path:
    """Moves, then stands still. Two keyframes at most: each codes the picture anew, and that is a change."""
    still = f"tpad=stop_mode=clone:stop_duration={frozen_s}"
    source = f"{MOVING}:duration={moving_s}"
    return make_clip(path, moving_s + frozen_s, source=source, graph=still, options=("-g", "100"))


def make_sound(path: Path) -> Path:
    command = [ffmpeg(), "-nostdin", "-loglevel", "error", "-y", "-f", "lavfi", "-i", "sine"]
    subprocess.run([*command, "-t", "2", str(path)], check=True)
    return path


def cut(path: Path, share: float) -> Path:
    """The first part of a file, beside it."""
    shorter = path.with_stem(f"{path.stem}-cut")
    content = path.read_bytes()
    shorter.write_bytes(content[: int(len(content) * share)])
    return shorter


def declare_duration(path: Path, seconds: float) -> Path:
    """A Matroska file that declares another duration than it has."""
    other = path.with_stem(f"{path.stem}-{seconds}")
    content = path.read_bytes()
    place = re.search(rb"\x44\x89\x88", content)
    assert place is not None, "Duration, as eight bytes"
    declared = struct.pack(">d", seconds * 1000)
    other.write_bytes(content[: place.end()] + declared + content[place.end() + 8 :])
    return other


def damage(path: Path, start: float, stop: float) -> Path:
    """Bytes between two shares of a file turned over."""
    other = path.with_stem(f"{path.stem}-damaged")
    content = bytearray(path.read_bytes())
    for place in range(int(len(content) * start), int(len(content) * stop)):
        content[place] ^= 0xA5
    other.write_bytes(bytes(content))
    return other
