"""Every data gate passes on a sound manifest and fails on the one thing it is there for."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest

from components.gates.data import COLUMNS, Requirements, check_dataset, find_leaked
from components.gates.result import GateResult

REQUIREMENTS = Requirements(
    categories=("caption", "vqa"),
    image_size=64,
    phash_distance=2,
    min_samples_per_category=4,
    max_rejected_share=0.25,
)


def _manifest() -> pd.DataFrame:
    rows = []
    for split, count in (("train", 8), ("validation", 2), ("test", 2)):
        for index in range(count):
            number = len(rows)
            rows.append(
                {
                    "key": f"k{number}",
                    "shard": f"{split}-00000.tar",
                    "index": index,
                    "split": split,
                    "group": "unseen" if split == "test" else "",
                    "category": ("caption", "vqa")[index % 2],
                    "source": "pypi:x==1",
                    "source_version": "1",
                    "licence": "MIT",
                    "original_id": str(number),
                    "width": 64,
                    "height": 64,
                    "image_sha256": f"{number:064x}",
                    "phash": f"{number * 0x1111:016x}",
                    "text_sha256": f"{number + 100:064x}",
                    "num_turns": 1,
                    "num_chars": 20,
                    "bytes": 500,
                }
            )
    return pd.DataFrame(rows)


def _check(manifest: pd.DataFrame, num_rejected: int = 1) -> dict[str, GateResult]:
    stored = dict.fromkeys(manifest["key"], "0" * 64) if "key" in manifest else {}
    results = check_dataset(
        manifest,
        stored_sha256=stored,
        expected_sha256=stored,
        num_rejected=num_rejected,
        requirements=REQUIREMENTS,
    )
    return {result.name: result for result in results}


def _failed(results: dict[str, GateResult]) -> set[str]:
    return {name for name, result in results.items() if not result.passed}


def test_a_sound_manifest_passes_every_gate() -> None:
    results = _check(_manifest())
    assert len(results) == 8 and not _failed(results)
    assert results["data/categories"].evidence["train/vqa"] == 4
    assert tuple(_manifest().columns) == COLUMNS


def _duplicate_key(table: pd.DataFrame) -> None:
    table.loc[1, "key"] = "k0"


def _duplicate_sample(table: pd.DataFrame) -> None:
    table.loc[1, ["image_sha256", "text_sha256"]] = table.loc[0, ["image_sha256", "text_sha256"]]


def _no_licence(table: pd.DataFrame) -> None:
    table.loc[3, "licence"] = ""


def _missing_value(table: pd.DataFrame) -> None:
    table.loc[3, "source_version"] = None


def _wrong_size(table: pd.DataFrame) -> None:
    table.loc[2, "width"] = 63


def _no_text(table: pd.DataFrame) -> None:
    table.loc[2, "num_turns"] = 0


def _broken_hash(table: pd.DataFrame) -> None:
    table.loc[2, "phash"] = "xyz"


def _unknown_split(table: pd.DataFrame) -> None:
    table.loc[0, "split"] = "dev"


def _test_without_group(table: pd.DataFrame) -> None:
    table.loc[11, "group"] = ""


def _leaked_image(table: pd.DataFrame) -> None:
    table.loc[0, "image_sha256"] = table.loc[11, "image_sha256"]


def _leaked_near_image(table: pd.DataFrame) -> None:
    table.loc[0, "text_sha256"] = table.loc[11, "text_sha256"]
    table.loc[0, "phash"] = f"{int(str(table.loc[11, 'phash']), 16) ^ 0b101:016x}"


def _too_few(table: pd.DataFrame) -> None:
    table.loc[1, "category"] = "caption"


@pytest.mark.parametrize(
    ("spoil", "gate"),
    [
        (_duplicate_key, "data/unique"),
        (_duplicate_sample, "data/unique"),
        (_no_licence, "data/complete"),
        (_missing_value, "data/complete"),
        (_wrong_size, "data/integrity"),
        (_no_text, "data/integrity"),
        (_unknown_split, "data/splits"),
        (_test_without_group, "data/splits"),
        (_leaked_image, "data/decontaminated"),
        (_leaked_near_image, "data/decontaminated"),
        (_too_few, "data/categories"),
    ],
)
def test_one_spoiled_row_fails_its_gate(spoil: Callable[[pd.DataFrame], None], gate: str) -> None:
    manifest = _manifest()
    spoil(manifest)
    results = _check(manifest)
    assert gate in _failed(results)
    assert results[gate].blocking and results[gate].fix and len(results[gate].evidence) > 1


def test_a_broken_hash_fails_integrity() -> None:
    manifest = _manifest().iloc[:9]
    _broken_hash(manifest)
    assert "data/integrity" in _failed(_check(manifest))


def test_a_missing_column_fails_the_schema_and_judges_no_more() -> None:
    results = _check(_manifest().drop(columns=["licence"]))
    assert _failed(results) == set(results) == {"data/schema"}


def test_a_corrupt_image_in_a_shard_fails_integrity() -> None:
    manifest = _manifest()
    expected = dict.fromkeys(manifest["key"], "0" * 64)
    results = check_dataset(
        manifest,
        stored_sha256=expected | {"k4": "f" * 64},
        expected_sha256=expected,
        num_rejected=0,
        requirements=REQUIREMENTS,
    )
    (failed,) = (result for result in results if not result.passed)
    assert failed.name == "data/integrity" and "k4" in failed.observed


def test_too_large_a_rejected_share_fails() -> None:
    assert _failed(_check(_manifest(), num_rejected=5)) == {"data/rejected_share"}


def test_leaked_is_blind_to_near_images_with_other_text() -> None:
    manifest = _manifest()
    manifest.loc[0, "phash"] = manifest.loc[11, "phash"]
    assert not find_leaked(manifest, 4).any()
