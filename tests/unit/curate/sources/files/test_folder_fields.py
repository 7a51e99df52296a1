"""Folders whose options name what is not there, and the names that sidecars and tables may have."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tiny_corpora import answers, failures, png, write
from tiny_corpora import read as read_source

from components.curate.sources.files import folder
from components.errors import ConfigError

read = partial(read_source, folder.SCHEME, folder.READER)
SIDECARS: dict[str, bytes | str] = {
    "a.png": png(1),
    "a.json": json.dumps({"caption": "one", "site": "north"}),
    "b.png": png(2),
    "b.txt": "two",
}
LINES: dict[str, bytes | str] = {
    "a.png": png(1),
    "b.png": png(2),
    "metadata.jsonl": '{"file_name": "a.png", "caption": "one", "site": "north"}\n'
    '{"file_name": "b.png", "caption": "two", "site": null}\n',
}


@pytest.mark.parametrize("files", [SIDECARS, LINES], ids=["sidecars", "jsonl"])
@pytest.mark.parametrize(
    "options", [{"group_by": "siet"}, {"caption": "captoin"}, {"facts": ["site", "sight"]}]
)
def test_folder_option_that_names_a_field_of_no_row_is_a_mistake(
    tmp_path: Path, files: dict[str, bytes | str], options: dict[str, Any]
) -> None:
    root = write(tmp_path / "photos", files)
    with pytest.raises(ConfigError, match=r"no row has the field '(siet|captoin|sight)'") as caught:
        read(f"folder:{root}", tmp_path / "downloads", **options)
    assert "caption" in caught.value.fix and "site" in caught.value.fix


@pytest.mark.parametrize("files", [SIDECARS, LINES], ids=["sidecars", "jsonl"])
def test_folder_row_without_the_group_is_rejected(tmp_path: Path, files: dict[str, bytes | str]) -> None:
    root = write(tmp_path / "photos", files)
    drafts = read(f"folder:{root}", tmp_path / "downloads", group_by="site", facts=["site"])
    assert answers(drafts) == {"a.png": ["one"]} and failures(drafts) == {"b.png": "no_group"}


def test_folder_of_files_has_no_shards_to_group_by(tmp_path: Path) -> None:
    root = write(tmp_path / "photos", SIDECARS)
    with pytest.raises(ConfigError, match="lie in no shard"):
        read(f"folder:{root}", tmp_path / "downloads", group_by="shard")


def test_folder_texts_named_like_the_whole_file_belong_to_it_alone(tmp_path: Path) -> None:
    root = write(
        tmp_path / "photos",
        {
            "a.JPG": png(1),
            "a.JPG.txt": "a jpeg",
            "a.png": png(2),
            "a.txt": "another",
            "b.png": png(3),
            "b.png.json": '{"caption": "b"}',
        },
    )
    drafts = read(f"folder:{root}", tmp_path / "downloads")
    assert answers(drafts) == {"a.JPG": ["a jpeg"], "a.png": ["another"], "b.png": ["b"]}
    assert not failures(drafts)


def test_folder_sidecar_that_is_a_list_holds_messages_or_captions(tmp_path: Path) -> None:
    talk = [{"from": "human", "value": "<image>\nWho?"}, {"from": "gpt", "value": "me"}]
    root = write(
        tmp_path / "photos",
        {
            "a.png": png(1),
            "a.json": "\ufeff " + json.dumps(talk),
            "b.png": png(2),
            "b.json": '["a cat", "one cat"]',
            "c.png": png(3),
            "c.json": "[1]",
            "d.png": png(4),
            "d.json": '"a word"',
            "e.png": png(5),
            "e.json": '{"titel": "a word"}',
        },
    )
    drafts = read(f"folder:{root}", tmp_path / "downloads")
    assert answers(drafts) == {"a.png": ["me"], "b.png": ["a cat"]}
    assert failures(drafts) == {"c.png": "bad_turns", "d.png": "json_not_an_object", "e.png": "no_text"}
    assert drafts[-1].payload["evidence"] == "no text is known in e.json"


def test_folder_table_that_nobody_named_is_told(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {"a.png": png(1), "b.png": png(2), "captions.csv": "file_name,caption\n"}
    root = write(tmp_path / "photos", files)
    with pytest.raises(ConfigError, match="no picture has a text") as caught:
        read(f"folder:{root}", tmp_path / "downloads")
    assert caught.value.fix.startswith("name it in options.table") and "captions.csv" in caught.value.fix
    write(root, {"a.txt": "a"})
    drafts = read(f"folder:{root}", tmp_path / "downloads")
    assert answers(drafts) == {"a.png": ["a"]} and failures(drafts) == {"b.png": "no_text"}
    assert drafts[1].payload["evidence"] == "is its text in captions.csv? name it in options.table"
