"""Reading inside packages: every regular file, no link, no bomb; the licence that the package states."""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
import warnings
import zipfile
from pathlib import Path

import pytest
from nasty_archives import GOOD, NASTY_TARS, member, tar
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


@pytest.mark.parametrize("name", NASTY_TARS)
def test_nasty_tarball_gives_its_good_members_or_is_named_as_damaged(tmp_path: Path, name: str) -> None:
    nasty = NASTY_TARS[name]
    path = tmp_path / "package.tgz"
    path.write_bytes(gzip.compress(nasty.make(), 1))
    if set(nasty.codes) & set(archives.DAMAGE):
        with pytest.raises(SourceError, match="cannot be read"):
            list(members(path))
    else:
        found = [name for name, _ in members(path)]
        assert [name for name in found if name in GOOD] == list(GOOD)
        assert not [name for name in found if name.startswith(("/", "..")) or "link" in name]


def test_wheel_members_outside_twice_or_linked_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "package.whl"
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile tells of the second name
        with zipfile.ZipFile(path, "w") as wheel:
            for name in ("a.txt", "../b.txt", "/c.txt", "a.txt", "d/e.txt"):
                wheel.writestr(name, name)
            wheel.writestr(link, "/etc/passwd")
    assert dict(members(path)) == {"a.txt": b"a.txt", "d/e.txt": b"d/e.txt"}


def test_wheel_with_a_wrong_checksum_is_named(tmp_path: Path) -> None:
    path = tmp_path / "package.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("a.txt", "content")
    path.write_bytes(path.read_bytes().replace(b"content", b"kontent"))
    with pytest.raises(SourceError, match="cannot be read"):
        list(members(path))


@pytest.mark.parametrize("compression", ["xz", "gz", "zst"])
def test_package_that_unpacks_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str
) -> None:
    monkeypatch.setattr(archives, "MAX_UNPACKED", 1 << 20)
    path = write_deb(tmp_path, {"a": b"a", "b": bytes(2 << 20)}, compression=compression)
    with pytest.raises(SourceError, match="unpacks to more than"):
        list(members(path))


def test_xz_that_asks_for_much_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "XZ_MEMORY", 1 << 20)
    with pytest.raises(SourceError, match="emory"):
        list(members(write_deb(tmp_path, {"a": b"a" * 5000})))


@pytest.mark.parametrize(
    ("package", "expected"),
    [
        ('{"license": "MIT"}', "MIT"),
        ('{"license": {"type": "ISC"}}', "ISC"),
        ('{"licenses": [{"type": "ODbL-1.0"}, "MIT"]}', "ODbL-1.0; MIT"),
        ('{"name": "none"}', "unknown"),
        ('{"license": ', "unknown"),
    ],
)
def test_npm_licence_is_what_its_package_json_says(tmp_path: Path, package: str, expected: str) -> None:
    path = tmp_path / "package.tgz"
    path.write_bytes(gzip.compress(tar(member("package/package.json", package.encode()))))
    assert licence(path) == expected


def test_wheel_without_metadata_has_an_unknown_licence(tmp_path: Path) -> None:
    path = tmp_path / "package.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("a.txt", "content")
    assert licence(path) == "unknown"
