"""Every data gate passes on a sound manifest and fails on the one thing it is there for."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest

from components.gates.data import Requirements, check_dataset, find_leaked
from components.gates.drift import measure_drift
from components.gates.manifest import COLUMNS, Stored
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
                    "label": "",
                    "source": "pypi:x==1",
                    "source_version": "1",
                    "licence": "MIT",
                    "original_id": str(number),
                    "kind": "png",
                    "width": 64,
                    "height": 64,
                    "source_format": "png",
                    "source_width": 640,
                    "source_height": 480,
                    "source_bytes": 9000,
                    "source_sha256": "1" * 64,
                    "misnamed": False,
                    "image_sha256": f"{number:064x}",
                    "phash": f"{number * 0x1111:016x}",
                    "blur": 3.0,
                    "nsfw": None,
                    "alignment": None,
                    "text_sha256": f"{number + 100:064x}",
                    "num_turns": 1,
                    "num_annotated": 0,
                    "num_chars": 20,
                    "num_words": 4,
                    "sha256": f"{number:064x}",
                    "bytes": 500,
                }
            )
    return pd.DataFrame(rows)


def _stored(manifest: pd.DataFrame) -> dict[str, Stored]:
    """Shards that hold what the manifest says."""
    if not {"key", "sha256", "text_sha256"} <= set(manifest.columns):
        return {}
    columns = (manifest[name] for name in ("key", "sha256", "text_sha256"))
    return {key: Stored(sha256, text) for key, sha256, text in zip(*columns, strict=True)}


def _check(manifest: pd.DataFrame, num_rejected: int = 1) -> dict[str, GateResult]:
    stored = _stored(manifest)
    results = check_dataset(
        manifest,
        stored=stored,
        rejected={"blank": num_rejected},
        requirements=REQUIREMENTS,
    )
    return {result.name: result for result in results}


def _failed(results: dict[str, GateResult]) -> set[str]:
    return {name for name, result in results.items() if not result.passed}


def test_a_sound_manifest_passes_every_gate() -> None:
    results = _check(_manifest())
    assert len(results) == 12 and not _failed(results)
    assert results["data/categories"].evidence["train/vqa"] == 4
    assert list(_manifest().columns) == list(COLUMNS)


def _duplicate_key(table: pd.DataFrame) -> None:
    table.loc[1, "key"] = "k0"


def _duplicate_sample(table: pd.DataFrame) -> None:
    table.loc[1, ["image_sha256", "text_sha256"]] = table.loc[0, ["image_sha256", "text_sha256"]]


def _no_licence(table: pd.DataFrame) -> None:
    table.loc[3, "licence"] = ""


def _unknown_licence(table: pd.DataFrame) -> None:
    table.loc[3, "licence"] = "unknown"


def _original_twice(table: pd.DataFrame) -> None:
    table.loc[2, "original_id"] = table.loc[0, "original_id"]


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
        (_unknown_licence, "data/licences"),
        (_original_twice, "data/unique"),
        (_wrong_size, "data/pictures"),
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


def test_a_broken_hash_fails_its_gate() -> None:
    manifest = _manifest().iloc[:9]
    _broken_hash(manifest)
    assert "data/pictures" in _failed(_check(manifest))


def test_a_missing_column_fails_the_schema_and_judges_no_more() -> None:
    results = _check(_manifest().drop(columns=["licence"]))
    assert _failed(results) == set(results) == {"data/schema"}


@pytest.mark.parametrize("changed", ["sha256", "text_sha256"])
def test_another_picture_or_text_in_a_shard_fails_integrity(changed: str) -> None:
    manifest = _manifest()
    stored = _stored(manifest)
    stored["k4"] = replace(stored["k4"], **{changed: "f" * 64})
    results = check_dataset(manifest, stored=stored, rejected={}, requirements=REQUIREMENTS)
    (failed,) = (result for result in results if not result.passed)
    assert failed.name == "data/integrity" and "k4" in failed.observed


def test_a_sample_in_a_shard_that_the_manifest_lacks_fails() -> None:
    manifest = _manifest()
    stored = _stored(manifest) | {"left-over": Stored("f" * 64, "f" * 64)}
    results = check_dataset(manifest, stored=stored, rejected={}, requirements=REQUIREMENTS)
    (failed,) = (result for result in results if not result.passed)
    assert failed.name == "data/nothing_else" and "left-over" in failed.observed


def test_samples_without_an_image_pass_every_gate() -> None:
    manifest = _manifest()
    texts = ["kind", "source_format", "source_sha256", "image_sha256", "phash", "sha256"]
    manifest.loc[4:6, texts] = ["text", "", "", "", "", ""]
    manifest.loc[4:6, ["width", "height", "source_width", "source_height", "source_bytes"]] = 0
    assert not _failed(_check(manifest))


def test_a_held_out_text_in_training_fails_decontamination() -> None:
    manifest = _manifest()
    texts = ["kind", "source_format", "source_sha256", "image_sha256", "phash", "sha256"]
    manifest.loc[[0, 11], texts] = ["text", "", "", "", "", ""]
    assert not find_leaked(manifest, 2).any()
    manifest.loc[0, "text_sha256"] = manifest.loc[11, "text_sha256"]
    assert find_leaked(manifest, 2).tolist() == [True] + [False] * 11


def test_pictures_that_are_not_square_pass_where_only_the_longer_side_counts() -> None:
    manifest = _manifest()
    manifest.loc[2, "height"] = 40
    stored = _stored(manifest)
    for square, failed in ((True, {"data/pictures"}), (False, set())):
        wanted = replace(REQUIREMENTS, square=square)
        results = check_dataset(manifest, stored=stored, rejected={}, requirements=wanted)
        assert {result.name for result in results if not result.passed} == failed


def test_one_category_that_crowds_out_the_others_fails() -> None:
    manifest = _manifest()
    stored = _stored(manifest)
    for most, failed in ((0.5, set()), (0.4, {"data/balance"})):
        wanted = replace(REQUIREMENTS, max_category_share=most)
        results = check_dataset(manifest, stored=stored, rejected={}, requirements=wanted)
        assert {result.name for result in results if not result.passed} == failed


def test_a_licence_that_is_not_allowed_fails() -> None:
    manifest = _manifest()
    manifest["licence"] = "MIT; Apache-2.0"
    manifest.loc[5, ["source", "licence"]] = ["npm:y==1", "MIT; CC-BY-NC-4.0"]
    stored = _stored(manifest)
    wanted = replace(REQUIREMENTS, allowed_licences=("MIT", "Apache-2.0"))
    results = check_dataset(manifest, stored=stored, rejected={}, requirements=wanted)
    (failed,) = (result for result in results if not result.passed)
    assert failed.name == "data/licences" and "npm:y==1" in failed.observed


def test_drift_is_none_against_itself_and_whole_against_something_else() -> None:
    manifest = _manifest()
    assert (measure_drift(manifest, manifest)["drift"] == 0).all()
    other = manifest.assign(category="chart", bytes=9000)
    moved = measure_drift(manifest, other).set_index("property")["drift"]
    assert moved["category"] == moved["bytes"] == 1.0 and moved["split"] == 0.0


def test_drift_above_the_limit_fails_its_gate_and_a_missing_column_does_not_matter() -> None:
    manifest = _manifest()
    stored = _stored(manifest)
    previous = manifest.assign(category="chart").drop(columns=["blur"])
    for most, failed in ((1.0, set()), (0.5, {"data/drift"})):
        wanted = replace(REQUIREMENTS, max_drift=most)
        results = check_dataset(manifest, stored=stored, rejected={}, requirements=wanted, previous=previous)
        assert {result.name for result in results if not result.passed} == failed


def test_data_docs_show_every_suite_without_a_network_too(tmp_path: Path) -> None:
    manifest = _manifest()
    stored = _stored(manifest)
    results = check_dataset(
        manifest, stored=stored, rejected={}, requirements=REQUIREMENTS, docs=tmp_path / "docs"
    )
    index = (tmp_path / "docs" / "index.html").read_text()
    assert "data unique" in index and "data decontaminated" in index
    links = dict(re.findall(r'✓ <a href="([^"]+)">([^<]+)</a>', index))
    assert sorted(links.values()) == sorted(each.name for each in results)
    assert all((tmp_path / "docs" / unquote(link)).is_file() for link in links)


def test_too_large_a_rejected_share_fails() -> None:
    assert _failed(_check(_manifest(), num_rejected=5)) == {"data/rejected_share"}


def test_what_a_cap_left_out_is_no_dirt() -> None:
    manifest = _manifest()
    for rejected, failed in (
        ({"label_cap": 500, "blank": 1}, set()),
        ({"label_cap": 500, "unwanted_label": 5000}, {"data/rejected_share"}),
    ):
        results = check_dataset(
            manifest, stored=_stored(manifest), rejected=rejected, requirements=REQUIREMENTS
        )
        assert {result.name for result in results if not result.passed} == failed


def test_leaked_is_blind_to_near_images_with_other_text() -> None:
    manifest = _manifest()
    manifest.loc[0, "phash"] = manifest.loc[11, "phash"]
    assert not find_leaked(manifest, 4).any()


def test_too_few_samples_say_why_they_were_rejected() -> None:
    manifest = _manifest()
    few = manifest[manifest["category"] == "vqa"].reset_index(drop=True)
    rejected = {"no_text": 1200, "blank": 3, "corrupt": 40, "blur": 2}
    results = check_dataset(few, stored=_stored(few), rejected=rejected, requirements=REQUIREMENTS)
    failed = {result.name: result for result in results if not result.passed}
    assert failed.keys() == {"data/categories", "data/rejected_share"}
    for each in failed.values():
        assert each.observed.endswith("rejected: no_text 1,200, corrupt 40, blank 3, others 2")
        assert each.fix.endswith("see: opsin data show")
    assert not any("rejected:" in result.observed for result in results if result.passed)
