from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_corpora import answers, failures, png, write, write_tar
from tiny_corpora import read as read_source
from tiny_hub import COMMIT, Hub, serve

from components.config import SourceConfig
from components.curate.samples import Draft, Reason, Turn
from components.curate.sources.files import hub, hub_files, parquet
from components.curate.sources.files.pairs import Layout
from components.errors import ConfigError, SourceError

read = partial(read_source, hub.SCHEME, hub.READER)
LAYOUT = Layout.of(SourceConfig(locator="hub:x", category="pets"))
CARD = """---
license: cc-by-4.0
configs:
- config_name: captions
  default: true
  data_files:
  - split: train
    path: data/train-*
  - split: test
    path: data/test-*
- config_name: talk
  data_files: talk.parquet
---
# Pets
"""
FEATURES = datasets.Features(
    {
        "image": datasets.Image(),
        "caption": datasets.Value("string"),
        "label": datasets.ClassLabel(names=["cat", "dog"]),
    }
)
TALK = datasets.Features(
    {
        "images": datasets.List(datasets.Image()),
        "texts": datasets.List({"user": datasets.Value("string"), "assistant": datasets.Value("string")}),
    }
)


def load(draft: Draft) -> bytes:
    assert hub.READER.load is not None
    return hub.READER.load(draft.payload)


def _captions(begin: int, end: int) -> list[dict[str, Any]]:
    return [
        {"image": {"bytes": png(n), "path": f"{n}.png"}, "caption": f"pet {n}", "label": n % 2}
        for n in range(begin, end)
    ]


def _write_parquet(
    path: Path, rows: list[dict[str, Any]], features: datasets.Features, group: int = 4
) -> None:
    """As `datasets` writes it: pictures as a struct of bytes and path, the features in the schema."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = datasets.Dataset.from_list(rows, features=features).data.table
    pq.write_table(table, path, row_group_size=group)


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset in the hub's layout, with a card, two configs, and a script that must not run."""
    root = write(tmp_path_factory.mktemp("pets"), {"README.md": CARD, "pets.py": "raise SystemExit"})
    _write_parquet(root / "data/train-00000-of-00002.parquet", _captions(0, 10), FEATURES)
    _write_parquet(root / "data/train-00001-of-00002.parquet", _captions(10, 15), FEATURES)
    _write_parquet(root / "data/test-00000-of-00001.parquet", _captions(15, 18), FEATURES)
    said = [{"user": "Who?", "assistant": "me"}]
    talk = [
        {"images": [{"bytes": png(1), "path": None}], "texts": said},
        {"images": [], "texts": said},
        {"images": None, "texts": said},
        {"images": [{"bytes": png(2), "path": None}, {"bytes": png(3), "path": None}], "texts": said},
        {"images": [{"bytes": png(4), "path": None}], "texts": []},
    ]
    _write_parquet(root / "talk.parquet", talk, TALK)
    return root


def test_hub_layout_gives_what_the_datasets_library_gives(pets: Path, tmp_path: Path) -> None:
    ours = read(f"hub:{pets}", tmp_path, validation=0.0)
    theirs = datasets.load_dataset(
        "parquet",
        data_files={"train": str(pets / "data/train-*"), "test": str(pets / "data/test-*")},
        streaming=True,
    )
    for split in ("train", "test"):
        rows = theirs[split].cast_column("image", datasets.Image(decode=False))
        names = theirs[split].features["label"].names
        expected = [(row["image"]["bytes"], row["caption"], names[row["label"]]) for row in rows]
        mine = [each for each in ours if each.split == split]
        assert [(load(each), each.turns[0].answer, each.label) for each in mine] == expected
        assert [each.file_name for each in mine] == [row["image"]["path"] for row in rows]
    assert {each.group for each in ours if each.split == "test"} == {"official_test"}
    assert ours[0].original_id == "data/test-00000-of-00001.parquet#1"


def test_hub_card_gives_licence_and_configs(pets: Path, tmp_path: Path) -> None:
    fetched = hub.fetch_hub(f"hub:{pets}", SourceConfig(locator=f"hub:{pets}", category="pets"), tmp_path)
    assert (fetched.licence, fetched.version) == ("cc-by-4.0", fetched.sha256[:16])
    talk = read(f"hub:{pets}:talk", tmp_path)
    assert [each.turns for each in talk if each.turns] == [(Turn("Who?", "me"),)]
    assert load(talk[0]) == png(1)
    assert failures(talk) == {
        "talk.parquet#2": "no_image",
        "talk.parquet#3": "no_image",
        "talk.parquet#4": "many_images",
        "talk.parquet#5": "no_text",
    }
    part = read(f"hub:{pets}", tmp_path, files="*-00001-of-*")
    assert {each.original_id.partition("#")[0] for each in part} == {"data/train-00001-of-00002.parquet"}
    with pytest.raises(ConfigError, match="no file like 'none'"):
        read(f"hub:{pets}", tmp_path, files="none")
    with pytest.raises(ConfigError, match=r"no config 'none'(.|\n)*:captions, :talk"):
        read(f"hub:{pets}:none", tmp_path)


def test_hub_planning_never_reads_the_pictures(
    pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = pq.ParquetFile.iter_batches

    def spy(self: Any, *args: Any, columns: list[str], **settings: Any) -> Any:
        asked.extend(columns)
        return real(self, *args, columns=columns, **settings)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", spy)
    assert read(f"hub:{pets}", tmp_path) and read(f"hub:{pets}:talk", tmp_path)
    assert set(asked) == {"caption", "label", "image.path", "texts", "images.list.element.path"}


def test_hub_loading_in_order_reads_every_row_group_once(
    pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drafts = [each for each in read(f"hub:{pets}", tmp_path) if "train-00000" in each.original_id]
    opened: list[tuple[str, int, str]] = []
    real = parquet.Cursor.__init__

    def spy(self: parquet.Cursor, *key: Any) -> None:
        opened.append(key)
        real(self, *key)

    monkeypatch.setattr(parquet.Cursor, "__init__", spy)
    assert [load(each) for each in drafts] == [png(number) for number in range(10)]
    assert [group for _, group, _ in opened] == [0, 1, 2]
    assert [load(drafts[place]) for place in (7, 2, 9, 2)] == [png(7), png(2), png(9), png(2)]


def test_hub_loading_holds_a_few_pictures_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    pictures = [png(number) + bytes(1 << 18) for number in range(64)]
    rows = [{"image": content, "text": "t"} for content in pictures]
    # Small pages: a page is read whole, whatever the reader does.
    pq.write_table(
        pa.Table.from_pylist(rows), tmp_path / "d/x.parquet", write_batch_size=4, compression="none"
    )
    drafts = read(f"hub:{tmp_path}/d", tmp_path / "downloads")
    before = pa.total_allocated_bytes()
    for draft, content in zip(drafts, pictures, strict=True):
        assert load(draft) == content
        assert pa.total_allocated_bytes() - before < 32 << 18


def test_hub_pictures_that_are_missing_are_found_out(tmp_path: Path) -> None:
    rows = [
        {"image": {"bytes": png(0), "path": "0.png"}, "caption": "a"},
        {"image": None, "caption": "b"},
        {"image": {"bytes": None, "path": "beside.png"}, "caption": "c"},
    ]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.Table.from_pylist(rows, pa.schema([("image", kind), ("caption", pa.string())]))
    (tmp_path / "d").mkdir()
    pq.write_table(table, tmp_path / "d/train.parquet")
    drafts = read(f"hub:{tmp_path}/d", tmp_path / "downloads")
    assert failures(drafts) == {"train.parquet#2": "no_image"}
    assert load(drafts[0]) == png(0)
    with pytest.raises(ValueError, match=r"no picture: it names the file beside\.png"):
        load(next(each for each in drafts if each.original_id == "train.parquet#3"))


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.list_(pa.binary())])
def test_hub_pictures_in_plain_columns_of_bytes(tmp_path: Path, kind: pa.DataType) -> None:
    listed = pa.types.is_list(kind)
    rows: list[dict[str, Any]] = [
        {"image": [png(n)] if listed else png(n), "text": f"t{n}"} for n in range(3)
    ]
    rows += [{"image": None, "text": "none"}, {"image": [png(8), png(9)] if listed else None, "text": "two"}]
    table = pa.Table.from_pylist(rows, pa.schema([("image", kind), ("text", pa.string())]))
    (tmp_path / "d").mkdir()
    pq.write_table(table, tmp_path / "d/x.parquet")
    drafts = read(f"hub:{tmp_path}/d", tmp_path / "downloads")
    assert [load(each) for each in drafts[:3]] == [png(n) for n in range(3)]
    for each in drafts[3:]:
        with pytest.raises(ValueError, match="the row holds"):
            load(each)


def test_hub_table_without_a_known_text_column_says_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    pq.write_table(pa.table({"image": [png(1)], "title": ["a cat"]}), tmp_path / "d/x.parquet")
    with pytest.raises(ConfigError, match=r"hold texts(.|\n)*columns: image, title"):
        read(f"hub:{tmp_path}/d", tmp_path / "downloads")
    (named,) = read(f"hub:{tmp_path}/d", tmp_path / "downloads", caption="title")
    assert named.turns[0].answer == "a cat"


@given(st.data())
def test_hub_no_damage_to_a_table_ends_a_run(pets: Path, tmp_path_factory: Any, data: st.DataObject) -> None:
    """Above all not the process: pyarrow's own accessors of a footer can do that."""
    content = bytearray((pets / "talk.parquet").read_bytes())
    footer = int.from_bytes(content[-8:-4], "little")
    begin = data.draw(st.sampled_from([0, len(content) - footer - 8]))
    for place in data.draw(st.lists(st.integers(begin, len(content) - 1), min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.parquet"
    path.write_bytes(content)
    try:
        rows = list(parquet.read_parquet(path, LAYOUT))
    except ConfigError:
        return  # a column has lost its name
    for row in rows:
        if isinstance(row, Reason):
            assert row.code == "corrupt_table" and row.evidence
            continue
        for picture in row.get("images") or ():
            if picture is not None:
                with suppress(ValueError):
                    parquet.load_embedded(picture.payload)


def test_hub_damaged_file_costs_only_itself(tmp_path: Path) -> None:
    root = tmp_path / "pets"
    _write_parquet(root / "data/train-00000-of-00002.parquet", _captions(0, 8), FEATURES)
    _write_parquet(root / "data/train-00001-of-00002.parquet", _captions(8, 12), FEATURES)
    broken = root / "data/train-00001-of-00002.parquet"
    broken.write_bytes(broken.read_bytes()[:-30])
    drafts = read(f"hub:{root}", tmp_path / "downloads")
    assert len(answers(drafts)) == 8
    assert failures(drafts) == {"data/train-00001-of-00002.parquet#1": "corrupt_table"}
    (root / "data/train-00000-of-00002.parquet").write_bytes(b"gone")
    with pytest.raises(ValueError):
        load(drafts[0])


def test_hub_imagefolder_layout_with_and_without_metadata(tmp_path: Path) -> None:
    root = write(
        tmp_path / "shapes",
        {
            "train/metadata.csv": "file_name,text\na.png,a square\n",
            "train/a.png": png(1),
            "test/metadata.csv": "file_name,text\na.png,a circle\n",
            "test/a.png": png(2),
        },
    )
    drafts = read(f"hub:{root}", tmp_path / "downloads", validation=0.0)
    assert {each.original_id: (each.split, each.turns[0].answer) for each in drafts} == {
        "train/a.png": ("train", "a square"),
        "test/a.png": ("test", "a circle"),
    }
    classes = write(tmp_path / "classes", {"cat/1.png": png(1), "dog/2.png": png(2)})
    options = {"label": "folder", "label_question": "Which animal?"}
    assert answers(read(f"hub:{classes}", tmp_path / "downloads", **options)) == {
        "cat/1.png": ["cat"],
        "dog/2.png": ["dog"],
    }


def test_hub_webdataset_layout_is_read_in_place(tmp_path: Path) -> None:
    for split in ("train", "validation"):
        write_tar(
            tmp_path / f"wds/{split}-0000.tar",
            [("k.png", png(3)), ("k.json", json.dumps({"caption": split}))],
        )
    drafts = read(f"hub:{tmp_path}/wds", tmp_path / "downloads")
    assert {each.split: each.turns[0].answer for each in drafts} == {
        "train": "train",
        "validation": "validation",
    }
    assert load(drafts[0]) == png(3)


@pytest.mark.parametrize(
    ("files", "error"),
    [
        (
            {"load.py": "raise SystemExit", "data.zip": "PK"},
            "no file like (.|\n)*without running its own code",
        ),
        (
            {"README.md": "---\nconfigs:\n- config_name: x\n  data_files: /etc/*\n---\n"},
            "outside of the dataset",
        ),
        (
            {"README.md": "---\nconfigs:\n- config_name: x\n  data_files: ../*\n---\n"},
            "outside of the dataset",
        ),
        ({"README.md": "---\nconfigs:\n- config_name: x\n  data_files: https://h/x\n---\n"}, "outside"),
        (
            {"README.md": "---\nconfigs:\n- config_name: x\n  data_files: gone.csv\n---\n"},
            "which is not there",
        ),
        ({"README.md": "---\nconfigs:\n- config_name: x\n  data_files: 3\n---\n"}, "no data file is found"),
        ({}, "no data file is found"),
    ],
)
def test_hub_layout_that_cannot_be_read_is_refused(tmp_path: Path, files: dict[str, str], error: str) -> None:
    (tmp_path / "d").mkdir()
    write(tmp_path / "d", files)
    with pytest.raises(ConfigError, match=error):
        read(f"hub:{tmp_path}/d", tmp_path / "downloads")


@pytest.mark.parametrize("locator", ["hub:acme", "hub:acme/pets", "hub:acme/pets@", "hub:a/b/c@main"])
def test_hub_locator_must_name_dataset_and_revision(locator: str) -> None:
    with pytest.raises(ConfigError, match="is not a locator of a dataset"):
        hub.check(locator)


def test_hub_locator_of_a_folder_without_its_dot_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pets").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        hub.check("hub:pets:small")
    assert "hub:./pets:small" in caught.value.fix


def test_hub_locator_parts() -> None:
    parse = hub_files.HubLocator.parse
    assert parse("hub:acme/pets@refs/pr/1:talk") == hub_files.HubLocator("acme/pets", "refs/pr/1", "", "talk")
    assert parse("hub:/data/pets:talk") == hub_files.HubLocator("", "", "/data/pets", "talk")
    assert parse("hub:./pets") == hub_files.HubLocator("", "", "./pets", "")


@pytest.fixture
def hub_server(pets: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve(Hub(pets)) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        yield server


@pytest.fixture
def fetch(tmp_path: Path) -> Callable[[str], Any]:
    def fetch_from(locator: str) -> Any:
        return hub.fetch_hub(locator, SourceConfig(locator=locator, category="pets"), tmp_path)

    return fetch_from


def test_hub_revision_is_fetched_by_its_commit_and_needs_no_hub_again(
    hub_server: Hub, pets: Path, tmp_path: Path, fetch: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = fetch("hub:acme/pets@main")
    assert (fetched.version, fetched.licence) == (COMMIT, "cc-by-4.0")
    assert {Path(name).name for name in hub_server.served} == {
        "README.md",
        *(each.name for each in (pets / "data").iterdir()),
    }
    local = read(f"hub:{pets}", tmp_path / "other")
    ours = read("hub:acme/pets@main", tmp_path)
    assert [(each.original_id, each.turns, load(each)) for each in ours] == [
        (each.original_id, each.turns, load(each)) for each in local
    ]
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    hub_server.served.clear()
    assert fetch(f"hub:acme/pets@{COMMIT}") == fetch("hub:acme/pets@main").__class__(
        f"hub:acme/pets@{COMMIT}", COMMIT, fetched.path, fetched.sha256, fetched.licence
    )
    assert not hub_server.served
    with pytest.raises(SourceError, match=r"the hub did not give acme/pets(.|\n)*hub:/DIRECTORY"):
        fetch("hub:acme/pets@v2")


def test_hub_what_is_not_there_or_not_given_says_what_to_do(
    hub_server: Hub, fetch: Callable[[str], Any]
) -> None:
    with pytest.raises(ConfigError, match="knows no dataset acme/cars"):
        fetch("hub:acme/cars@main")
    with pytest.raises(ConfigError, match="has no revision v9"):
        fetch("hub:acme/pets@v9")
    hub_server.gated = True
    with pytest.raises(SourceError, match=r"accept its terms(.|\n)*HF_TOKEN"):
        fetch("hub:acme/pets@main")
