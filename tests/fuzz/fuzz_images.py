"""Fuzz the readers of strangers' files, led by coverage (atheris); run by hand, for as long as one likes.

    python -m venv /tmp/fuzz --system-site-packages && /tmp/fuzz/bin/pip install atheris
    PYTHONPATH=. /tmp/fuzz/bin/python -m tests.fuzz.fuzz_images [CORPUS] -max_total_time=600
    PYTHONPATH=. /tmp/fuzz/bin/python -m tests.fuzz.fuzz_images -runs=100000
    PYTHONPATH=. /tmp/fuzz/bin/python -m tests.fuzz.fuzz_images crash-...            one finding again

What comes out must be a reason or a result, within libFuzzer's own bounds of memory and time. The first byte
of an input chooses the reader. Without a corpus, the nasty files of the unit tests are the seeds.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "curate"))

with atheris.instrument_imports(
    include=["components.curate.image", "components.curate.tars", "components.curate.sources.svg", "PIL"]
):
    from components.config.images import ImageLimits
    from components.config.tars import TarLimits
    from components.curate.images import Examined, Header, examine, read_header
    from components.curate.samples import Reason
    from components.curate.sources.vector.checks import assert_harmless
    from components.curate.tars import BadMember, iter_members, parse_json

from nasty import NASTY
from nasty_archives import NASTY_JSON, NASTY_TARS

LIMITS = ImageLimits(max_pixels=1_000_000)
"""Few pixels, so that speed finds more than size does."""
TAR_LIMITS = TarLimits()
SVG = (
    '<!DOCTYPE svg [<!ENTITY e "9">]><svg xmlns:x="http://www.w3.org/1999/xlink"><g id="a" fill="url(#g)">'
    '<image x:href="data:image/png;base64,iVBO"/></g><use x:href="#a" width="&e;"/></svg>'
)
SMALL = 20_000
"""Bytes of a seed at most."""


def read_image(content: bytes) -> None:
    header = read_header(content, LIMITS)
    if not isinstance(header, Header):
        assert isinstance(header, Reason) and header.code
        return
    found = examine(content, header, LIMITS, side=64)
    assert isinstance(found, Examined | Reason)
    if isinstance(found, Examined):
        assert found.image.mode == "RGB" and max(found.image.size) <= 256
        assert len(found.gray_32x32) == 1024


def read_tar(content: bytes) -> None:
    file = io.BytesIO(content)
    for member in iter_members(file, TAR_LIMITS):
        if isinstance(member, BadMember):
            assert member.reason.code
        else:
            assert len(member.read(file)) == member.size
            assert not member.name.startswith("/") and ".." not in member.name.split("/")


def read_json(content: bytes) -> None:
    assert isinstance(parse_json(content, TAR_LIMITS), dict | Reason)


def check_svg(content: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert_harmless(content.decode("utf-8", "replace"))


READERS = (read_image, read_tar, read_json, check_svg, read_image, read_image)
"""Pictures have the most code behind them and get half of the inputs."""


def fuzz(content: bytes) -> None:
    if content:
        READERS[content[0] % len(READERS)](content[1:])


def write_seeds(directory: Path) -> None:
    for number, table in ((0, NASTY), (1, NASTY_TARS), (2, NASTY_JSON)):
        for name, nasty in table.items():
            if len(content := nasty.make()) <= SMALL:
                (directory / f"{number}-{name}").write_bytes(bytes([number]) + content)
    (directory / "3-svg").write_bytes(b"\3" + SVG.encode())


def main() -> None:
    arguments = sys.argv
    given = any(not each.startswith("-") for each in arguments[1:])
    with tempfile.TemporaryDirectory() as folder:
        if not given:
            write_seeds(Path(folder))
            arguments = [*arguments, folder]
        atheris.Setup(arguments, fuzz)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
