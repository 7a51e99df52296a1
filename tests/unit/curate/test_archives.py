"""Reading inside packages: every regular file, no link, no bomb; the licence that the package states."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from tiny_packages import write_deb

from components.curate import archives
from components.curate.archives import licence, members
from components.errors import SourceError

DEP5 = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"


@pytest.mark.parametrize("compression", ["xz", "gz", "zst"])
def test_deb_members_are_read_whatever_the_compression(tmp_path: Path, compression: str) -> None:
    files = {"usr/share/a.svg": b"<svg/>", "usr/share/b.txt": b"text" * 1000}
    path = write_deb(tmp_path, files, compression=compression)
    assert dict(members(path)) == files


def test_deb_links_and_oversized_members_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBER", 100)
    path = write_deb(tmp_path, {"a": b"x" * 100, "bomb": b"0" * 101}, links={"link": "/etc/passwd"})
    assert dict(members(path)) == {"a": b"x" * 100}


@pytest.mark.parametrize(
    ("copyright_file", "expected"),
    [
        (DEP5 + "Files: *\nLicense: GPL-2+\n text\n\nFiles: b\nLicense: MIT\n", "GPL-2+; MIT"),
        ("It was put into the Public Domain by its authors.", "public-domain"),
        ("All rights reserved.", "unknown"),
    ],
)
def test_deb_licence_is_what_its_copyright_file_says(
    tmp_path: Path, copyright_file: str, expected: str
) -> None:
    path = write_deb(tmp_path, {"usr/share/doc/p/copyright": copyright_file.encode()})
    assert licence(path) == expected


def test_deb_without_copyright_file_has_an_unknown_licence(tmp_path: Path) -> None:
    assert licence(write_deb(tmp_path, {"a": b"a"})) == "unknown"


@pytest.mark.parametrize("cut", [4, 40, 200])
def test_deb_cut_short_is_named_and_not_read(tmp_path: Path, cut: int) -> None:
    path = write_deb(tmp_path, {"a": b"a" * 5000})
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(SourceError, match="cannot be read") as caught:
        list(members(path))
    assert str(path) in str(caught.value)


def test_tarball_and_wheel_members_are_read_the_same_way(tmp_path: Path) -> None:
    path = tmp_path / "package.tgz"
    with tarfile.open(path, "w:gz") as tar:
        info = tarfile.TarInfo("package/a.json")
        info.size = 2
        tar.addfile(info, io.BytesIO(b"{}"))
    assert dict(members(path)) == {"package/a.json": b"{}"}
