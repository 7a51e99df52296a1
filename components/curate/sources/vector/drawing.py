"""Draw SVGs for another process, one after the other; a bomb or a crash ends this process and not the caller.

    python -I drawing.py MEMORY SECONDS     bytes of address space, processor time for one drawing

Until standard input closes: 4 bytes of size in pixels, 4 of length, the SVG → 1 byte of success, 4 of length,
the PNG or what was wrong.

A renderer cannot be interrupted, and some drawings make it abort, fill the memory, or work for days (a
turbulence of a billion octaves is 150 characters). So the kernel bounds memory and processor time here.
It runs as a file, not as a module: importing the package around it would cost a second.
"""

from __future__ import annotations

import ctypes
import resource
import signal
import struct
import sys

import resvg_py

DPI = 96
"""CSS's pixels per inch; without it a size in millimetres counts as none."""
PR_SET_PDEATHSIG = 1


def main(memory: int, seconds: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller ends by closing the pipe
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "darwin":  # macOS knows the limit and does not hold it
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    source, target = sys.stdin.buffer, sys.stdout.buffer
    while head := source.read(8):
        side, length = struct.unpack("<II", head)
        drawn, content = draw(source.read(length).decode(), side, seconds)
        target.write(struct.pack("<?I", drawn, len(content)) + content)
        target.flush()


def draw(svg: str, side: int, seconds: int) -> tuple[bool, bytes]:
    """A PNG that fits a square of `side` pixels, on white; or what was wrong."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    bound = int(used.ru_utime + used.ru_stime) + seconds + 1
    resource.setrlimit(resource.RLIMIT_CPU, (bound, resource.RLIM_INFINITY))
    try:
        png = resvg_py.svg_to_bytes(
            svg_string=svg, width=side, height=side, background="white", skip_system_fonts=True, dpi=DPI
        )
    except (ValueError, MemoryError) as error:
        return False, (str(error) or type(error).__name__).encode()
    return True, bytes(png)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
