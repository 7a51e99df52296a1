"""Rasterize SVGs from strangers: whole, centred on a white square, and nothing read from outside.

What can be counted is refused by `checks`, the same on every machine. What cannot (filters, patterns
and masks that take gigabytes or days, or that make the renderer abort) happens in a process of its own,
within limits that the kernel holds; a new one is started when it ends.
"""

from __future__ import annotations

import atexit
import io
import os
import signal
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from PIL import Image

from components.curate.sources.vector.checks import assert_harmless

MEMORY = 1 << 30
"""Bytes of address space for drawing; 256 pixels take some tens of megabytes."""
SECONDS = 5
"""Processor time for a drawing; the slowest of Open Clip Art takes 0.2."""
GRACE_S = 10.0
"""Seconds that the drawing process gets to end by itself."""
SCRIPT = Path(__file__).with_name("drawing.py")


def rasterize(svg: str, size: int) -> Image.Image:
    """An RGB image of `size` × `size` pixels; what is not square is padded with white.

    Raises:
        ValueError: the SVG cannot be read, has no size, is nested too deep, draws a file from outside, or
            takes more memory or time than a drawing does.
    """
    assert_harmless(svg)
    drawn = Image.open(io.BytesIO(_renderer.draw(svg, size))).convert("RGB")
    if drawn.size == (size, size):
        return drawn
    page = Image.new("RGB", (size, size), "white")
    page.paste(drawn, ((size - drawn.width) // 2, (size - drawn.height) // 2))
    return page


class _Renderer:
    """The drawing process of this process; started at the first drawing, and again when it has ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def draw(self, svg: str, side: int) -> bytes:
        """A PNG.

        Raises:
            ValueError: the renderer refused, or ended.
        """
        content = svg.encode("utf-8", "replace")
        with self._lock:
            process = self._running()
            assert process.stdin and process.stdout, "pipes were asked for"
            try:
                process.stdin.write(struct.pack("<II", side, len(content)) + content)
                process.stdin.flush()
                head = process.stdout.read(5)
            except BrokenPipeError:
                head = b""
            drawn, length = struct.unpack("<?I", head) if len(head) == 5 else (False, 1)
            answer = process.stdout.read(length)
            if len(answer) < length:
                raise ValueError(f"takes more memory or time than a drawing does: {self._end()}")
        if not drawn:
            raise ValueError(answer.decode())
        return answer

    def _running(self) -> subprocess.Popen[bytes]:
        # A process forked from this one holds the same pipes and must not talk into them.
        if self._process is None or self._owner != os.getpid():
            self._owner = os.getpid()
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(SCRIPT), str(MEMORY), str(SECONDS)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        return self._process

    def _end(self) -> str:
        """Forget the process, which has ended or is ending; how it ended."""
        assert self._process and self._process.stdin and self._process.stdout
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            status = self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._process.stdout.close()
        self._process = None
        return signal.Signals(-status).name if status < 0 else f"exit status {status}"

    def close(self) -> None:
        with self._lock:
            if self._process and self._owner == os.getpid():
                self._end()


_renderer = _Renderer()
atexit.register(_renderer.close)
