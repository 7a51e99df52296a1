from __future__ import annotations

import io
import json
import tarfile
from functools import partial
from pathlib import Path

import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st
from s3 import Bucket
from tiny_corpora import answers, failures, png, write, write_tar
from tiny_corpora import read as read_source

from components.config import SourceConfig
from components.curate.samples import Turn
from components.curate.sources.files import patterns
from components.curate.sources.files import webdataset as source
from components.curate.sources.files.listing import Selected
from components.curate.sources.files.pairs import Layout
from components.errors import ConfigError, SourceError

read = partial(read_source, source.SCHEME, source.READER)
LAYOUT = Layout.of(SourceConfig(locator="webdataset:x.tar", category="photos"))


def test_webdataset_pairs_by_key_and_loads_exactly_the_bytes(tmp_path: Path) -> None:
    facts = {"caption": "a dog", "metadata": {"site": "north"}, "license": "CC0-1.0"}
    write_tar(
        tmp_path / "shards/train-00000.tar",
        [
            ("./d/cat.jpg", png(1)),
            ("d/cat.txt", "a cat\n"),
            ("d/dog.png", png(2)),
            ("vqa.question.txt", "Who?"),
            ("vqa.png", png(3)),
            ("d/dog.json", json.dumps(facts)),
            ("vqa.answer.txt", "me"),
            ("vqa.cls", "7"),
        ],
    )
    drafts = {
        d.original_id: d for d in read(f"webdataset:{tmp_path}/shards/train-00000.tar", tmp_path / "dl")
    }
    assert list(drafts) == ["train-00000.tar/d/cat", "train-00000.tar/d/dog", "train-00000.tar/vqa"]
    cat, dog, vqa = drafts.values()
    assert cat.turns == (Turn("Describe the image.", "a cat"),)
    assert (dog.turns[0].answer, dog.facts, dog.licence) == ("a dog", {"site": "north"}, "CC0-1.0")
    assert (vqa.turns, vqa.label) == ((Turn("Who?", "me"),), "7")
    assert source.READER.load is not None
    assert [source.READER.load(each.payload) for each in (cat, dog, vqa)] == [png(1), png(2), png(3)]
    assert [each.file_name for each in (cat, dog, vqa)] == ["d/cat.jpg", "d/dog.png", "vqa.png"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it leaves its file open
def test_webdataset_reads_what_the_library_writes_and_like_it(tmp_path: Path) -> None:
    path = tmp_path / "000.tar"
    with webdataset.TarWriter(str(path)) as writer:
        for number in range(5):
            writer.write({"__key__": f"k{number}", "jpg": png(number), "json": {"caption": f"c{number}"}})
    theirs = {
        sample["__key__"]: (sample["jpg"], json.loads(sample["json"])["caption"])
        for sample in webdataset.WebDataset(str(path), shardshuffle=False)
    }
    assert source.READER.load is not None
    ours = {
        draft.original_id.removeprefix("000.tar/"): (
            source.READER.load(draft.payload),
            draft.turns[0].answer,
        )
        for draft in read(f"webdataset:{path}", tmp_path / "dl")
    }
    assert ours == theirs


def test_webdataset_what_is_no_sample_is_rejected_by_name(tmp_path: Path) -> None:
    path = write_tar(
        tmp_path / "bad.tar",
        [
            ("alone.jpg", png(1)),
            ("words.txt", "no picture"),
            ("two.jpg", png(2)),
            ("two.png", png(3)),
            ("two.txt", "which?"),
            ("broken.jpg", png(4)),
            ("broken.json", "{"),
            ("latin.jpg", png(5)),
            ("latin.txt", b"caf\xe9"),
            ("twice.jpg", png(6)),
            ("twice.txt", "first"),
            ("twice.JPG", png(7)),
            ("twice.txt", "second"),
            ("../escape.jpg", png(8)),
            ("/abs.jpg", png(8)),
            ("NOKEY", "x"),
            ("d/._apple", "x"),
            ("empty.jpg", b""),
            ("empty.txt", ""),
        ],
    )
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    drafts = read(f"webdataset:{path}", tmp_path / "dl")
    assert answers(drafts) == {"bad.tar/twice": ["first"]}
    assert failures(drafts) == {
        "bad.tar/alone": "no_text",
        "bad.tar/words": "no_image",
        "bad.tar/two": "many_images",
        "bad.tar/broken": "json_syntax",
        "bad.tar/latin": "invalid_utf8",
        "bad.tar/empty": "no_text",
        "bad.tar/twice.JPG": "duplicate_name",
        "bad.tar/twice.txt": "duplicate_name",
        "bad.tar/../escape.jpg": "unsafe_path",
        "bad.tar//abs.jpg": "unsafe_path",
        "bad.tar/NOKEY": "no_key",
        "bad.tar/link.jpg": "not_a_file",
    }


def test_webdataset_cut_shard_keeps_what_came_before_the_cut(tmp_path: Path) -> None:
    path = write_tar(
        tmp_path / "cut.tar", [("a.jpg", png(1)), ("a.txt", "a"), ("b.jpg", png(2)), ("b.txt", "b")]
    )
    path.write_bytes(path.read_bytes()[: 512 * 5 + 20])
    drafts = read(f"webdataset:{path}", tmp_path / "dl")
    assert answers(drafts) == {"cut.tar/a": ["a"]}
    assert "truncated_archive" in failures(drafts).values()


def test_webdataset_several_pictures_of_a_key_the_plain_one_or_the_named_one(tmp_path: Path) -> None:
    path = write_tar(
        tmp_path / "s.tar",
        [("k.depth.png", png(2)), ("k.jpg", png(1)), ("k.txt", "t"), ("l.rgb.png", png(3)), ("l.txt", "u")],
    )
    load = source.READER.load
    assert load is not None
    plain = read(f"webdataset:{path}", tmp_path / "dl")
    assert [load(each.payload) for each in plain] == [png(1), png(3)]
    depth, missing = read(f"webdataset:{path}", tmp_path / "dl", image="depth.png")
    assert load(depth.payload) == png(2)
    assert missing.payload["failed"] == "no_image"


def test_webdataset_patterns_name_shards_and_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "test" / "corpus"  # a split's name above the pattern's root says nothing
    for split in ("train", "val"):
        for number in range(2):
            write_tar(
                root / split / f"{number:03d}.tar", [("a.jpg", png(number)), ("a.txt", f"{split}{number}")]
            )
    write(root, {"train/notes.md": "x"})
    drafts = read(f"webdataset:{root}/{{train,val}}/{{000..001}}.tar", tmp_path / "dl")
    assert {d.original_id: d.split for d in drafts} == {
        "train/000.tar/a": "train",
        "train/001.tar/a": "train",
        "val/000.tar/a": "validation",
        "val/001.tar/a": "validation",
    }
    assert drafts == read(f"webdataset:{root}/*/*.tar", tmp_path / "dl")
    with pytest.raises(ConfigError, match=r"there is no file .*002.tar"):
        read(f"webdataset:{root}/train/{{000..002}}.tar", tmp_path / "dl")
    monkeypatch.setattr(patterns, "MAX_FILES", 1000)
    for wrong in ("none-*.tar", "{1..3.tar", "{0..99999999}.tar", "{1..99}{1..99}.tar"):
        with pytest.raises(ConfigError):
            read(f"webdataset:{root}/{wrong}", tmp_path / "dl")
    for wrong in ("webdataset:", "webdataset:a.tar.gz"):
        with pytest.raises(ConfigError):
            source.check(wrong)


SUFFIXES = st.sampled_from(["jpg", "png", "txt", "json", "cls", "depth.png", "question.txt", "answer.txt"])
KEYS = st.text("ab/", min_size=1, max_size=3).map(lambda text: text.strip("/") or "a")
CONTENT = {"json": b'{"caption": "x"}'}


@given(st.lists(st.tuples(KEYS, SUFFIXES), min_size=1, max_size=30, unique=True), st.randoms())
def test_webdataset_grouping_loses_nothing_and_knows_no_order(
    members: list[tuple[str, str]], random: object
) -> None:
    names = [f"{'/'.join(filter(None, key.split('/')))}.{suffix}" for key, suffix in members]
    names = list(dict.fromkeys(names))

    def sort_in(order: list[str]) -> dict[str, tuple[set[str], set[str]]]:
        groups: dict[str, source.Group] = {}
        file = io.BytesIO()
        for name in order:
            content = CONTENT.get(name.rpartition(".")[2], b"x")
            member = source.Member(name, file.seek(0, 2), len(content))
            file.write(content)
            assert source.sort_in(member, groups, file) is None
        return {key: (set(group.pictures), set(group.texts)) for key, group in groups.items()}

    grouped = sort_in(names)
    assert sorted(f"{key}.{each}" for key, (p, t) in grouped.items() for each in p | t) == sorted(names)
    shuffled = list(names)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert sort_in(shuffled) == grouped


@given(st.binary(max_size=2048))
def test_webdataset_no_bytes_end_a_run(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.tar"
    path.write_bytes(content)
    assert list(source.read_shard(Selected("noise.tar", path), LAYOUT))


def test_webdataset_shards_of_an_s3_server_are_fetched_once(s3_bucket: Bucket, tmp_path: Path) -> None:
    for name in ("wds/train-000.tar", "wds/train-001.tar", "wds/val-000.tar", "wds/deep/x.tar"):
        path = write_tar(tmp_path / name, [("a.jpg", png(len(name))), ("a.txt", name)])
        s3_bucket.client.upload_file(str(path), s3_bucket.name, name)
    downloads = tmp_path / "downloads"
    locator = f"webdataset:{s3_bucket.url}/wds/*.tar"
    drafts = read(locator, downloads)
    assert {each.original_id: each.split for each in drafts} == {
        "train-000.tar/a": "train",
        "train-001.tar/a": "train",
        "val-000.tar/a": "validation",
    }
    assert source.READER.load is not None
    assert source.READER.load(drafts[0].payload) == png(len("wds/train-000.tar"))
    stamps = {path: path.stat().st_mtime_ns for path in (downloads / "s3").iterdir()}
    assert read(locator, downloads) == drafts
    assert {path: path.stat().st_mtime_ns for path in (downloads / "s3").iterdir()} == stamps
    braces = read(f"webdataset:{s3_bucket.url}/wds/train-{{000..001}}.tar", downloads)
    assert [each.original_id for each in braces] == ["train-000.tar/a", "train-001.tar/a"]
    for wrong in (
        f"{s3_bucket.url}/wds/train-{{000..002}}.tar",
        f"{s3_bucket.url}/none/*.tar",
        "s3://bucket",
    ):
        with pytest.raises(ConfigError):
            read(f"webdataset:{wrong}", downloads)


def test_webdataset_changed_shard_is_another_version_and_a_silent_server_the_last_one(
    s3_bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    locator, downloads = f"webdataset:{s3_bucket.url}/s.tar", tmp_path / "downloads"
    config = SourceConfig(locator=locator, category="photos")
    versions = []
    for text in ("one", "two"):
        path = write_tar(tmp_path / "s.tar", [("a.jpg", png(1)), ("a.txt", text)])
        s3_bucket.client.upload_file(str(path), s3_bucket.name, "s.tar")
        versions.append(source.fetch_webdataset(locator, config, downloads).version)
    assert versions[0] != versions[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    assert source.fetch_webdataset(locator, config, downloads).version == versions[1]
    assert "the shards of the last time are taken" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(SourceError, match="no answer"):
        source.fetch_webdataset(locator, config, tmp_path / "elsewhere")


def test_webdataset_texts_may_be_named_like_the_whole_file(tmp_path: Path) -> None:
    write_tar(
        tmp_path / "0.tar",
        [("a.jpg.txt", "a cat"), ("a.jpg", png(1)), ("b.png.json", '["a dog"]'), ("b.png", png(2))],
    )
    drafts = read(f"webdataset:{tmp_path}/0.tar", tmp_path / "dl")
    assert [each.turns[0].answer for each in drafts] == ["a cat", "a dog"]


def test_webdataset_option_that_names_a_field_of_no_sample_is_a_mistake(tmp_path: Path) -> None:
    members = [("a.png", png(1)), ("a.depth.png", png(2)), ("a.json", '{"caption": "a", "site": "n"}')]
    write_tar(tmp_path / "0.tar", [*members, ("b.png", png(3)), ("b.txt", "b")])
    for options in ({"group_by": "siet"}, {"image": "dept.png"}, {"caption": "captoin"}):
        with pytest.raises(ConfigError, match="no row has the field") as caught:
            read(f"webdataset:{tmp_path}/0.tar", tmp_path / "dl", **options)
        assert "site" in caught.value.fix
    drafts = read(f"webdataset:{tmp_path}/0.tar", tmp_path / "dl", group_by="site", image="depth.png")
    assert [each.payload.get("failed", "") for each in drafts] == ["", "no_image"]
    drafts = read(f"webdataset:{tmp_path}/0.tar", tmp_path / "dl", group_by="site")
    assert [each.payload.get("failed", "") for each in drafts] == ["", "no_group"]
