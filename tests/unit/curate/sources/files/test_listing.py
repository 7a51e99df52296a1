from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tiny_corpora import write

from components.curate.sources.files import listing
from components.curate.sources.files.listing import digest_content, list_folder

OLD = (1_600_000_000_000_000_000, 1_600_000_000_000_000_000)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files whose content was read; files count as settled at once."""
    names: list[str] = []
    real = listing.digest_file

    def spy(path: Path) -> str:
        names.append(path.name)
        return real(path)

    monkeypatch.setattr(listing, "digest_file", spy)
    monkeypatch.setattr(listing, "SETTLED_NS", -1)
    return names


def test_digest_reads_only_what_changed(tmp_path: Path, hashed: list[str]) -> None:
    root, state = write(tmp_path / "d", {"a.txt": "one", "b/c.txt": "two"}), tmp_path / "state.json"

    def digest() -> str:
        hashed.clear()
        return digest_content(list_folder(root).files, state=state)

    first = digest()
    assert sorted(hashed) == ["a.txt", "c.txt"]
    assert digest() == first and hashed == []
    write(root, {"a.txt": "uno"})  # as long as before
    os.utime(root / "a.txt", ns=OLD)
    second = digest()
    assert second != first and hashed == ["a.txt"]
    write(root, {"a.txt": "dos"})
    os.utime(root / "a.txt", ns=OLD)  # size and time as before: the status change gives it away
    assert digest() not in (first, second) and hashed == ["a.txt"]
    write(root, {"a.txt": "one"})
    assert digest() == first
    (root / "a.txt").unlink()
    assert digest() != first and hashed == []


def test_digest_does_not_trust_a_file_that_has_just_changed(tmp_path: Path) -> None:
    root, state = write(tmp_path / "d", {"a.txt": "one"}), tmp_path / "state.json"
    digest_content(list_folder(root).files, state=state)
    assert json.loads(state.read_text()) == {}


def test_digest_is_the_same_without_a_state_and_covers_names(tmp_path: Path) -> None:
    files = list_folder(write(tmp_path / "d", {"a": "1", "b": "2"})).files
    first = digest_content(files, state=tmp_path / "one.json")
    assert digest_content(files, state=tmp_path / "two.json") == first
    assert digest_content(files, state=tmp_path / "one.json", besides=["x"]) != first
    swapped = {"a": files["b"], "b": files["a"]}
    assert digest_content(swapped, state=tmp_path / "three.json") != first


def test_listing_leaves_out_what_is_hidden(tmp_path: Path) -> None:
    root = write(tmp_path / "d", {"z": "", "a/b": "", ".git/config": "", "a/.DS_Store": ""})
    found = list_folder(root)
    assert list(found.files) == ["a/b", "z"] and not found.refused
