"""Tar files byte for byte as Python's own writer makes them, with an index that leads to every member."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.curate.tarwriter import write_index, write_tar

MEMBERS = st.lists(
    st.tuples(st.text("abcdefghij-0123456789", min_size=1, max_size=90), st.binary(max_size=2000)),
    unique_by=lambda member: member[0],
    max_size=12,
)


def write_with_tarfile(path: Path, members: list[tuple[str, bytes]]) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.mode = len(content), 0, 0o644
            tar.addfile(info, io.BytesIO(content))


@given(MEMBERS)
def test_tar_is_what_tarfile_writes(
    tmp_path_factory: pytest.TempPathFactory, members: list[tuple[str, bytes]]
) -> None:
    folder = tmp_path_factory.mktemp("tar")
    entries = write_tar(folder / "ours.tar", members)
    write_with_tarfile(folder / "theirs.tar", members)
    content = (folder / "ours.tar").read_bytes()
    assert content == (folder / "theirs.tar").read_bytes()
    assert [content[each.offset : each.offset + each.size] for each in entries] == [c for _, c in members]


def test_tar_larger_than_its_buffer_is_whole(tmp_path: Path) -> None:
    members = [(f"{number}.bin", bytes([number]) * (3 << 20)) for number in range(4)]
    write_tar(tmp_path / "ours.tar", members)
    with tarfile.open(tmp_path / "ours.tar") as tar:
        for name, content in members:
            member = tar.extractfile(name)
            assert member is not None and member.read() == content


def test_tar_of_a_name_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="does not fit"):
        write_tar(tmp_path / "x.tar", [("x" * 101, b"")])


def test_index_names_extension_offset_size_and_member(tmp_path: Path) -> None:
    entries = write_tar(tmp_path / "x.tar", [("a.png", b"12345"), ("a.json", b"{}"), ("b.json", b"[]")])
    write_index(tmp_path / "x.idx", [entries[:2], entries[2:]])
    assert (tmp_path / "x.idx").read_text().splitlines() == [
        "v1.2 2",
        "png 512 5 a.png json 1536 2 a.json",
        "json 2560 2 b.json",
    ]
