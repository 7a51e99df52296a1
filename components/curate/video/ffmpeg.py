"""Runs ffmpeg over a file from a stranger: it gets an open file and nothing else.

The input is a file descriptor (`fd:`, ffmpeg 6 and later), and no other protocol is allowed for it, so that
a playlist, a reference in a container or a script named `.mp4` cannot open another file or a host. Only
containers of video are read. Time, memory, pixels and output are bounded, and the process dies with the one
that started it.
"""

from __future__ import annotations

import ctypes
import os
import resource
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import IO, Any

from components.config.video import VideoLimits
from components.errors import ConfigError

CONTAINERS = "mov,matroska,avi,mpegts,mpeg,ogg,flv,asf"
"""Demuxers that may be used (`mov` is MP4 too, `matroska` WebM): none of them opens a second file."""
MAX_LOG = 1 << 20
BACK_S = 30.0
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Finished:
    """What a run of ffmpeg gave."""

    status: int
    stdout: bytes
    log: str
    problem: str = ""
    """`timeout` or `too_much_output`, where it was ended for that."""

    @property
    def last_error(self) -> str:
        """The last line of the log that says something, without addresses in memory."""
        lines = [
            line for line in self.log.splitlines() if line.strip() and "last message rep" not in line.lower()
        ]
        told = [line for line in lines if not line.startswith(("Error opening input", "At least one output"))]
        return (told or lines or [f"status {self.status}"])[-1].rpartition("] ")[2].strip()[:200]


@lru_cache(maxsize=1)
def ffmpeg() -> str:
    """The binary that imageio-ffmpeg carries, or the one that IMAGEIO_FFMPEG_EXE names.

    Raises:
        ConfigError: there is none for this platform, or it is older than version 6.
    """
    import imageio_ffmpeg

    try:
        path = str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise ConfigError(
            "no ffmpeg for this platform", fix="install one and name it in IMAGEIO_FFMPEG_EXE"
        ) from error
    protocols = subprocess.run([path, "-hide_banner", "-protocols"], capture_output=True, text=True).stdout
    if "fd" not in protocols.split():
        raise ConfigError(
            "this ffmpeg cannot read from a file descriptor",
            where=path,
            fix="use version 6 or later (imageio-ffmpeg 0.5 and later carry one)",
        )
    return path


def run_ffmpeg(
    file: IO[bytes],
    arguments: Sequence[str],
    limits: VideoLimits,
    *,
    before: Sequence[str] = (),
    log_level: str = "info",
    max_output: int = 1 << 20,
) -> Finished:
    """Run ffmpeg over an open file, which is read from its beginning.

    Args:
        arguments: Behind the input: filters and the output.
        before: Options of the input, such as where to seek to.
        max_output: Bytes of standard output after which it is ended.
    """
    os.lseek(file.fileno(), 0, os.SEEK_SET)
    command = [ffmpeg(), "-hide_banner", "-nostdin", "-nostats", "-loglevel", log_level, "-threads", "1"]
    command += ["-protocol_whitelist", "fd", "-format_whitelist", CONTAINERS]
    command += ["-max_pixels", str(limits.max_pixels), *before, "-fd", str(file.fileno()), "-i", "fd:"]
    process = subprocess.Popen(
        [*command, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=(file.fileno(),),
        preexec_fn=_child(limits),
    )
    with process:
        try:
            return _collect(process, time.monotonic() + limits.timeout_s, max_output)
        finally:
            process.kill()


def run_at(
    file: IO[bytes], at_s: float, arguments: Sequence[str], limits: VideoLimits, *, max_output: int = 1 << 20
) -> Finished:
    """Run ffmpeg from a time on (seconds).

    In a file without an index (WebM as it was recorded) a search may end behind the keyframe that it needs;
    then decoding begins earlier, and what comes before is thrown away.
    """
    where = ("-ss", f"{at_s:.3f}")
    done = run_ffmpeg(file, arguments, limits, before=where, log_level="error", max_output=max_output)
    if done.stdout or done.problem or at_s == 0:
        return done
    early = max(at_s - BACK_S, 0.0)
    skip = ("-ss", f"{at_s - early:.3f}")
    where = ("-ss", f"{early:.3f}")
    return run_ffmpeg(
        file, (*skip, *arguments), limits, before=where, log_level="error", max_output=max_output
    )


def _collect(process: subprocess.Popen[bytes], deadline: float, max_output: int) -> Finished:
    """Read both pipes as they fill, up to their limits and the deadline."""
    assert process.stdout is not None and process.stderr is not None
    pipes = {
        process.stdout.fileno(): (bytearray(), max_output),
        process.stderr.fileno(): (bytearray(), MAX_LOG),
    }
    problem = ""
    with selectors.DefaultSelector() as selector:
        for descriptor in pipes:
            selector.register(descriptor, selectors.EVENT_READ)
        while selector.get_map() and not problem:
            ready = selector.select(max(deadline - time.monotonic(), 0))
            if not ready:
                problem = "timeout"
            for key, _ in ready:
                received = os.read(key.fd, 1 << 16)
                content, limit = pipes[key.fd]
                content += received
                if not received:
                    selector.unregister(key.fd)
                elif len(content) > limit:
                    problem = "too_much_output"
    if problem:
        process.kill()
    status = process.wait()
    stdout, log = (bytes(content) for content, _ in pipes.values())
    return Finished(status, stdout, log.decode("utf-8", "replace"), problem)


@lru_cache(maxsize=1)
def _libc() -> Any:
    return ctypes.CDLL(None) if sys.platform == "linux" else None


def _child(limits: VideoLimits) -> Callable[[], None]:
    """What the child does before it becomes ffmpeg; nothing is imported or looked up there."""
    libc, memory, seconds = _libc(), limits.memory_mb << 20, int(limits.timeout_s) + 1

    def confine() -> None:
        if libc is not None:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # it writes to pipes only
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    return confine
