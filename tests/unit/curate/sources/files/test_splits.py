from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.curate.sources.files.splits import Splitter, split_of_folder, split_of_table

SPLITTER = Splitter(seed=0, validation=0.2, test=0.2, by="patient id", names={"minival": "dev"}, own=())


@pytest.mark.parametrize(
    ("name", "folder", "table"),
    [
        ("train/a.png", "train", "train"),
        ("Data/VAL/a.tar", "VAL", "VAL"),
        ("train-00000-of-00002.parquet", "", "train"),
        ("annotations_test.jsonl", "", "test"),
        ("train station.jpg", "", "train"),
        ("trainstation.tar", "", ""),
        ("shard-000.tar", "", ""),
    ],
)
def test_split_names_are_found_in_folders_and_in_words_of_tables(name: str, folder: str, table: str) -> None:
    assert (split_of_folder(name), split_of_table(name)) == (folder, table)


def test_split_names_of_the_source_are_known_or_mapped() -> None:
    assert [SPLITTER.named(name) for name in ("Train", "valid", "eval", "minival", "challenge")] == [
        "train", "validation", "test", "validation", None,
    ]  # fmt: skip


@given(st.text())
def test_split_of_a_group_is_one_and_says_what_was_held_out(group: str) -> None:
    split, held_out = SPLITTER.place(None, group)
    assert (held_out == "unseen_patient_id") == (split == "test")
    assert SPLITTER.place("train", group) == (split, held_out)
    assert SPLITTER.place("test", group) == ("test", "official_test")
    own = replace(SPLITTER, own=("test",)).place(None, group)
    assert own[0] in (split, "train", "validation") and own[0] != "test"
    if split == "validation":
        assert replace(SPLITTER, own=("validation",)).place(None, group) == ("train", "")


def test_splits_have_about_the_shares_that_were_asked_for() -> None:
    places = [SPLITTER.place(None, str(number))[0] for number in range(2000)]
    assert 0.17 < places.count("test") / 2000 < 0.23
    assert 0.17 < places.count("validation") / 2000 < 0.23
