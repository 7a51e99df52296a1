"""Evaluation sets as users make them: from any source; a change makes the data anew; nothing stale stays."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from made import folder_config, photo, write_folder

from components.config import CurateConfig
from components.curate import curate, preflight
from components.curate.evaluation import make_evaluation_set
from components.errors import ConfigError


@pytest.fixture
def evaluation(curate_config: Callable[..., CurateConfig], tmp_path: Path) -> Callable[[range], Path]:
    """The pictures of some numbers, at another size, as an evaluation set: always the same file."""

    def write(numbers: range) -> Path:
        folder = tmp_path / f"evaluation-{numbers.stop}"
        folder.mkdir()
        for number in numbers:
            photo(number).resize((300, 240)).save(folder / f"{number}.jpg", quality=80)
            (folder / f"{number}.txt").write_text("which one is it?")
        config = preflight(folder_config(curate_config, folder))
        assert make_evaluation_set(config, tmp_path / "set.parquet", "bench").num_samples == len(numbers)
        return tmp_path / "set.parquet"

    return write


def test_evaluation_set_that_grows_makes_the_data_anew_without_its_pictures(
    curate_config: Callable[..., CurateConfig], evaluation: Callable[[range], Path], tmp_path: Path
) -> None:
    write_folder(tmp_path / "photos", range(30))
    duplicates = {"evaluation_sets": [str(evaluation(range(3)))]}
    config = folder_config(curate_config, tmp_path / "photos", duplicates=duplicates)
    first = curate(config=preflight(config))
    evaluation(range(8))
    second = curate(config=preflight(config))
    assert first.uri != second.uri
    for dataset, fewest in ((first, 3), (second, 8)):
        logs = dataset.path.parent / "logs"
        rejected = pd.read_parquet(logs / "quarantine.parquet")
        found = rejected.loc[rejected["reason"] == "in_evaluation", "original_id"]
        held_out = json.loads((logs / "funnel.json").read_text())["kept"]
        kept_test = sum(each["samples"] for each in held_out if each["split"] == "test")
        assert len(found) + kept_test >= fewest and {Path(each).stem for each in found} <= {
            str(number) for number in range(fewest)
        }
        kept = pd.read_parquet(dataset.path / "manifest.parquet")
        trained = {Path(each).stem for each in kept.loc[kept["split"] != "test", "original_id"]}
        assert not trained & {str(number) for number in range(fewest)}


def test_evaluation_set_that_is_missing_is_refused_before_anything_runs(
    curate_config: Callable[..., CurateConfig],
) -> None:
    config = curate_config(duplicates={"evaluation_sets": ["nowhere.parquet"]})
    with pytest.raises(ConfigError, match="does not exist"):
        preflight(config)


def test_digest_of_a_named_file_must_be_the_one_found(
    curate_config: Callable[..., CurateConfig], evaluation: Callable[[range], Path]
) -> None:
    path = str(evaluation(range(2)))
    config = curate_config(duplicates={"evaluation_sets": [path]}, digests={path: "0" * 64})
    with pytest.raises(ConfigError, match="not the one that the config names"):
        preflight(config)


def test_what_an_earlier_attempt_left_in_the_shards_is_not_in_the_dataset(
    curate_config: Callable[..., CurateConfig], tmp_path: Path
) -> None:
    write_folder(tmp_path / "photos", range(60))
    config = preflight(folder_config(curate_config, tmp_path / "photos"))
    whole = curate(config=config)
    shard = next(iter(sorted((whole.path / "shards").glob("*.tar"))))
    (shard.parent / "train-png-00000.123.part").write_bytes(b"killed while it wrote this")
    shard.with_name("train-png-00077.tar").write_bytes(shard.read_bytes())
    shard.with_name("train-png-00077.idx").write_bytes(shard.with_suffix(".idx").read_bytes())
    shard.write_bytes(b"half a shard")
    Path(whole.record).unlink()
    again = curate(config=config)
    assert (again.digest, again.version) == (whole.digest, whole.version)
