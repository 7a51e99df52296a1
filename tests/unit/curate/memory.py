"""How much memory it takes to look at each nasty picture: `python tests/unit/curate/memory.py`.

The files are made in a fork, and each is looked at in a fork of its own, so that nothing but looking is
measured. Prints JSON: name → reason code (`ok` where it passes) and megabytes above what a fork begins with.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

from nasty import LARGE, NASTY

from components.config.images import ImageLimits
from components.curate.images import examine, read_header
from components.curate.samples import Reason


def look(content: bytes) -> str:
    """The reason code that a picture ends with."""
    limits = ImageLimits()
    header = read_header(content, limits)
    found = header if isinstance(header, Reason) else examine(content, header, limits, side=256)
    return found.code if isinstance(found, Reason) else "ok"


def in_fork(work: Callable[[], str]) -> tuple[str, float]:
    """What `work` said in a fork of this process, and the fork's peak in megabytes."""
    read, write = os.pipe()
    if not (child := os.fork()):
        status = 1
        try:
            os.write(write, work().encode())
            status = 0
        except BaseException:
            traceback.print_exc()
        os._exit(status)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    _, status, usage = os.wait4(child, 0)
    return said if status == 0 else f"died with {status}", usage.ru_maxrss / 1024


def make_all(directory: Path) -> str:
    for name, nasty in (NASTY | LARGE).items():
        (directory / name).write_bytes(nasty.make())
    return "made"


def main() -> None:
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        in_fork(lambda: make_all(directory))
        look((directory / "jpeg").read_bytes())  # loads what is loaded on first use
        for path in sorted(directory.iterdir()):
            _, before = in_fork(lambda path=path: str(len(path.read_bytes())))  # type: ignore[misc]
            code, peak = in_fork(lambda path=path: look(path.read_bytes()))  # type: ignore[misc]
            found[path.name] = (code, round(peak - before, 1))
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
