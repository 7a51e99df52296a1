from __future__ import annotations

import csv
import json
import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_corpora import answers, failures, png, write
from tiny_corpora import read as read_source

from components.config import SourceConfig
from components.curate.samples import Turn
from components.curate.sources.files import folder
from components.errors import ConfigError, SourceError

read = partial(read_source, folder.SCHEME, folder.READER)


def fetch(root: Path, downloads: Path) -> Any:
    locator = f"folder:{root}"
    return folder.fetch_folder(locator, SourceConfig(locator=locator, category="photos"), downloads)


def test_folder_sidecars_become_turns_facts_and_labels(tmp_path: Path) -> None:
    described = {
        "question": "What is it?",
        "answer": "a cup",
        "label": "cup",
        "licence": "CC0-1.0",
        "metadata": {"place": {"city": "Oslo"}, "year": 1994, "tags": ["red", "old"]},
    }
    root = write(
        tmp_path / "photos",
        {
            "deep/er/cat.JPG": png(1),
            "deep/er/cat.txt": "a cat\n",
            "cup.png": png(2),
            "cup.json": json.dumps(described),
            "talk.png": png(3),
            "talk.json": json.dumps(
                {
                    "conversations": [
                        {"from": "human", "value": "<image>\nWho?"},
                        {"from": "gpt", "value": "me"},
                    ]
                }
            ),
            "README.md": "---\nlicense: cc-by-4.0\n---\n",
            "readme.txt": "about this folder",
            ".git/x.txt": "hidden",
        },
    )
    drafts = {each.original_id: each for each in read(f"folder:{root}", tmp_path / "downloads")}
    assert list(drafts) == ["cup.png", "deep/er/cat.JPG", "talk.png"]
    assert drafts["deep/er/cat.JPG"].turns == (Turn("Describe the image.", "a cat"),)
    assert drafts["talk.png"].turns == (Turn("Who?", "me"),)
    cup = drafts["cup.png"]
    assert (cup.turns, cup.label, cup.licence) == ((Turn("What is it?", "a cup"),), "cup", "CC0-1.0")
    assert cup.facts == {"place.city": "Oslo", "year": "1994", "tags": "red, old"}
    assert folder.READER.load is not None
    assert folder.READER.load(cup.payload) == png(2)
    assert fetch(root, tmp_path / "downloads").licence == "cc-by-4.0"
    assert all(each.file_name == name for name, each in drafts.items())


def test_folder_what_is_no_sample_is_rejected_by_name(tmp_path: Path) -> None:
    root = write(
        tmp_path / "photos",
        {
            "alone.png": png(1),
            "words.txt": "a text without its picture",
            "broken.png": png(2),
            "broken.json": '{"caption": "half',
            "latin.png": png(3),
            "latin.txt": "caf\xe9".encode("latin-1"),
            "nan.png": png(4),
            "nan.json": '{"caption": "x", "metadata": {"y": NaN}}',
            "good.png": png(5),
            "good.txt": "good",
        },
    )
    drafts = read(f"folder:{root}", tmp_path / "downloads")
    assert answers(drafts) == {"good.png": ["good"]}
    assert failures(drafts) == {
        "alone.png": "no_text",
        "broken.png": "json_syntax",
        "latin.png": "invalid_utf8",
        "nan.png": "json_not_finite",
        "words.txt": "no_image",
    }
    assert all(each.payload["evidence"] for each in drafts if each.original_id == "broken.png")


def test_folder_links_out_of_it_are_refused(tmp_path: Path) -> None:
    outside = write(tmp_path / "secret", {"key.png": png(1), "key.txt": "secret"})
    root = write(tmp_path / "photos", {"in/a.png": png(2), "in/a.txt": "inside"})
    (root / "stolen.png").symlink_to(outside / "key.png")
    (root / "all").symlink_to(outside, target_is_directory=True)
    (root / "again").symlink_to(root / "in", target_is_directory=True)
    (root / "same.png").symlink_to(root / "in/a.png")
    (root / "same.txt").symlink_to("in/a.txt")
    (root / "nowhere.png").symlink_to("missing.png")
    os.mkfifo(root / "pipe.png")
    drafts = read(f"folder:{root}", tmp_path / "downloads")
    assert answers(drafts) == {"in/a.png": ["inside"], "same.png": ["inside"]}
    assert failures(drafts) == {
        "stolen.png": "unsafe_path",
        "all": "unsafe_path",
        "nowhere.png": "not_a_file",
        "pipe.png": "not_a_file",
    }


def test_folder_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    root = write(tmp_path / "photos", {"a.png": png(1), "a.txt": "a"})
    Path(os.fsdecode(os.fsencode(root) + b"/caf\xe9.png")).write_bytes(png(2))
    (root / "new\nline.png").write_bytes(png(3))
    drafts = read(f"folder:{root}", tmp_path / "downloads")
    assert sorted(failures(drafts).values()) == ["unsafe_path", "unsafe_path"]
    assert json.dumps([each.original_id for each in drafts], ensure_ascii=False).encode()


ROWS: list[dict[str, Any]] = [
    {"file_name": "a.png", "caption": "one", "site": "north"},
    {"file_name": "a.png", "caption": "another view", "site": "north"},
    {"file_name": "sub/b.png", "caption": "two", "site": "south"},
    {"file_name": "../../secret.png", "caption": "out", "site": "south"},
    {"file_name": "/etc/passwd", "caption": "out", "site": "south"},
    {"file_name": "gone.png", "caption": "gone", "site": "south"},
    {"file_name": "", "caption": "text only", "site": "south"},
    {"file_name": "https://example.org/x.png", "caption": "far", "site": "south"},
]
FILES = {"a.png": png(1), "sub/b.png": png(2), "unnamed.png": png(3)}


def _write_table(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ROWS[0])
            writer.writeheader()
            writer.writerows(ROWS)
    else:
        pq.write_table(pa.Table.from_pylist(ROWS), path)


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_folder_metadata_table_names_pictures(tmp_path: Path, suffix: str) -> None:
    root = write(tmp_path / "photos", FILES)
    write(tmp_path, {"secret.png": png(9)})
    table = f"metadata.{suffix}"
    _write_table(root / table)
    drafts = read(f"folder:{root}", tmp_path / "downloads", group_by="site", facts=["site"])
    assert answers(drafts) == {"a.png": ["one", "another view"], "sub/b.png": ["two"]}
    assert failures(drafts) == {
        f"{table}#4": "unsafe_path",
        f"{table}#5": "unsafe_path",
        f"{table}#6": "missing_image",
        f"{table}#7": "no_image",
        f"{table}#8": "no_image",
        "unnamed.png": "no_text",
    }
    assert {each.original_id: each.facts for each in drafts}["a.png"] == {"site": "north"}


def test_folder_bad_lines_of_a_table_cost_only_themselves(tmp_path: Path) -> None:
    long = json.dumps({"file_name": "a.png", "caption": "x" * (1 << 20)})
    lines = ['{"file_name": "a.png", "caption": "one"}', "{", "", "[1, 2]", long, '{"file_name": "b.png"}']
    root = write(
        tmp_path / "photos",
        {
            "a.png": png(1),
            "b.png": png(2),
            "metadata.jsonl": "\n".join([*lines, '{"file_name": "b.png", "caption": "two"}']),
        },
    )
    drafts = read(f"folder:{root}", tmp_path / "downloads")
    assert answers(drafts) == {"a.png": ["one"], "b.png": ["two"]}
    assert failures(drafts) == {
        "metadata.jsonl#2": "json_syntax",
        "metadata.jsonl#3": "json_not_an_object",
        "metadata.jsonl#4": "json_too_large",
    }


def test_folder_llava_file_beside_its_pictures(tmp_path: Path) -> None:
    def talk(question: str, answer: str) -> list[dict[str, str]]:
        return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]

    rows = [
        {"id": "1", "image": "1.png", "conversations": talk("<image>\nWhat?", "a cat")},
        {"id": "2", "conversations": talk("What is 1 + 1?", "2")},
        {"id": "3", "image": ["1.png", "2.png"], "conversations": talk("<image><image>Differ?", "yes")},
    ]
    root = write(
        tmp_path / "llava",
        {"coco/1.png": png(1), "coco/2.png": png(2), "data/llava.json": json.dumps(rows)},
    )
    options = {"table": "data/llava.json", "images": "coco"}
    drafts = read(f"folder:{root}", tmp_path / "downloads", **options)
    assert answers(drafts) == {"coco/1.png": ["a cat"]}
    assert failures(drafts) == {
        "data/llava.json#2": "no_image",
        "data/llava.json#3": "many_images",
        "coco/2.png": "no_text",
    }
    allowed = read(f"folder:{root}", tmp_path / "downloads", text_only=True, **options)
    assert answers(allowed)["data/llava.json#2"] == ["2"]
    assert next(each.payload for each in allowed if each.original_id == "data/llava.json#2") == {}


def test_folder_labels_can_be_the_names_of_folders(tmp_path: Path) -> None:
    root = write(tmp_path / "classes", {"cats/1.png": png(1), "dogs/1.png": png(2)})
    drafts = read(
        f"folder:{root}", tmp_path / "downloads", label="folder", label_question="Which animal is this?"
    )
    assert [(each.label, each.turns) for each in drafts] == [
        ("cats", (Turn("Which animal is this?", "cats"),)),
        ("dogs", (Turn("Which animal is this?", "dogs"),)),
    ]


def test_folder_own_splits_are_kept_and_missing_ones_carved_from_training(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {}
    for number in range(200):
        name = f"{'test' if number % 4 == 0 else 'train'}/site{number % 20}/{number}"
        files |= {f"{name}.png": png(number), f"{name}.txt": f"picture {number}"}
    root = write(tmp_path / "photos", files)
    drafts = read(f"folder:{root}", tmp_path / "downloads", group_by="folder", validation=0.3)
    by_split = {
        split: {d.original_id for d in drafts if d.split == split}
        for split in ("train", "validation", "test")
    }
    assert by_split["test"] == {name for name in files if name.startswith("test/") and name.endswith(".png")}
    assert {each.group for each in drafts if each.split == "test"} == {"official_test"}
    folders = {split: {Path(name).parent for name in names} for split, names in by_split.items()}
    assert folders["validation"] and folders["train"] and not folders["validation"] & folders["train"]


def test_folder_without_splits_holds_out_whole_groups(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {}
    for number in range(120):
        files |= {f"p{number % 30}/{number}.png": png(number), f"p{number % 30}/{number}.txt": f"{number}"}
    root = write(tmp_path / "photos", files)
    options: dict[str, Any] = {"group_by": "folder", "validation": 0.2, "test": 0.2}
    drafts = read(f"folder:{root}", tmp_path / "downloads", **options)
    groups = {
        split: {Path(d.original_id).parent for d in drafts if d.split == split}
        for split in ("train", "validation", "test")
    }
    assert all(groups.values()) and sum(map(len, groups.values())) == 30
    assert {d.group for d in drafts} == {"", "unseen_folder"}
    assert drafts == read(f"folder:{root}", tmp_path / "downloads", **options)
    moved = read(f"folder:{root}", tmp_path / "downloads", seed=1, **options)
    assert [d.split for d in moved] != [d.split for d in drafts]


def test_folder_unknown_split_is_rejected_until_it_is_named(tmp_path: Path) -> None:
    rows = [{"file_name": "a.png", "caption": "a", "split": "minival"}]
    root = write(tmp_path / "photos", {"a.png": png(1), "metadata.jsonl": json.dumps(rows[0])})
    assert failures(read(f"folder:{root}", tmp_path / "downloads")) == {"a.png": "unknown_split"}
    (named,) = read(f"folder:{root}", tmp_path / "downloads", splits={"minival": "validation"})
    assert named.split == "validation"


def test_folder_two_tables_that_say_the_same_must_be_chosen_from(tmp_path: Path) -> None:
    root = write(tmp_path / "photos", {"a.png": png(1), "metadata.csv": "file_name,caption\na.png,csv\n"})
    write(root, {"metadata.jsonl": '{"file_name": "a.png", "caption": "jsonl"}'})
    with pytest.raises(ConfigError, match="more than one table"):
        read(f"folder:{root}", tmp_path / "downloads")
    assert answers(read(f"folder:{root}", tmp_path / "downloads", table="metadata.csv")) == {"a.png": ["csv"]}


def test_folder_mistakes_of_the_config_say_what_is_there(tmp_path: Path) -> None:
    root = write(tmp_path / "photos", {"a.png": png(1), "metadata.csv": "file_name,title\na.png,x\n"})
    with pytest.raises(ConfigError, match=r"no column 'titel'(.|\n)*columns: file_name, title"):
        read(f"folder:{root}", tmp_path / "downloads", caption="titel")
    with pytest.raises(ConfigError, match=r"no table 'other.csv'"):
        read(f"folder:{root}", tmp_path / "downloads", table="other.csv")
    with pytest.raises(ConfigError, match=r"both `question` and `answer`"):
        read(f"folder:{root}", tmp_path / "downloads", question="title")
    with pytest.raises(ConfigError, match="there is no folder"):
        read(f"folder:{tmp_path / 'none'}", tmp_path / "downloads")
    with pytest.raises(ConfigError, match="names no folder"):
        folder.check("folder:")
    write(root, {"README.md": "---\nlicense: [\n---\n"})
    with pytest.raises(SourceError, match="dataset card"):
        fetch(root, tmp_path / "downloads")


def test_folder_version_follows_content_and_nothing_else(tmp_path: Path) -> None:
    root = write(tmp_path / "photos", {"a.png": png(1), "a.txt": "one"})
    first = fetch(root, tmp_path / "downloads")
    assert first.version == first.sha256[:16]
    assert fetch(root, tmp_path / "elsewhere").sha256 == first.sha256
    copy = shutil.copytree(root, tmp_path / "copy")
    assert fetch(copy, tmp_path / "downloads").sha256 == first.sha256
    write(root, {".hidden": "x"})
    assert fetch(root, tmp_path / "downloads").sha256 == first.sha256
    (root / "a.txt").rename(root / "b.txt")
    assert fetch(root, tmp_path / "downloads").sha256 != first.sha256
    (root / "b.txt").rename(root / "a.txt")
    assert fetch(root, tmp_path / "downloads").sha256 == first.sha256
    write(root, {"a.txt": "two"})
    assert fetch(root, tmp_path / "downloads").sha256 != first.sha256
