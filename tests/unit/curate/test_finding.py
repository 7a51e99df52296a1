"""Curations by name, fingerprint and folder: finished, stopped by a gate, restored; `opsin data`."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from components.artifacts import Dataset
from components.config import CurateConfig
from components.curate import curate
from components.curate.finding import find_curation, find_dataset, find_mixture
from components.errors import ArtifactMissing, ConfigError, GateFailed
from flows.data_cli import app


@pytest.fixture
def workspace(curated: Dataset, tmp_path: Path) -> Path:
    """A workspace of one finished curation, `tiny`; the current directory has folders of other things."""
    root = tmp_path / "w"
    shutil.copytree(curated.path.parents[2], root / ".opsin" / "artifacts", dirs_exist_ok=True)
    return root


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current directory where `tiny` and `data` are folders of other things."""
    folder = tmp_path / "elsewhere"
    for name in ("tiny", "data"):
        (folder / name).mkdir(parents=True)
        (folder / name / "notes.txt").write_text("no curation")
    monkeypatch.chdir(folder)
    return folder


def _directory(workspace: Path) -> Path:
    (record,) = workspace.glob(".opsin/artifacts/curate/*/record.json")
    return record.parent


def _restored(workspace: Path) -> Path:
    """As `opsin restore` leaves it: files and record, no logs."""
    shutil.rmtree(_directory(workspace) / "logs")
    return _directory(workspace)


def _run(*arguments: str, workspace: Path) -> str:
    result = CliRunner().invoke(app, [*arguments, "--workspace", str(workspace)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("reference", ["", "tiny", "curate/"])
def test_a_curation_goes_by_its_name_before_a_folder(
    workspace: Path, elsewhere: Path, reference: str
) -> None:
    assert find_curation(reference, workspace) == _directory(workspace)


def test_a_curation_goes_by_its_folder_or_what_lies_in_it(workspace: Path) -> None:
    directory = _directory(workspace)
    for path in (directory, directory / "output", directory / "logs"):
        assert find_curation(str(path), workspace / "empty") == directory
    assert find_dataset(str(directory), workspace / "empty").path == directory / "output"


def test_a_folder_without_a_curation_and_an_unknown_name_are_told(workspace: Path, elsewhere: Path) -> None:
    with pytest.raises(ArtifactMissing, match=r"'data', and that folder holds none[\s\S]*name one of: tiny"):
        find_curation("data", workspace)
    for unknown in ("c", "none"):
        with pytest.raises(ArtifactMissing, match="no curation goes by"):
            find_curation(unknown, workspace)
    with pytest.raises(ArtifactMissing, match="nothing was curated"):
        find_curation("", elsewhere)


def test_a_curation_that_a_gate_stopped_is_found_by_name_and_is_no_dataset(
    curate_config: Callable[..., CurateConfig],
) -> None:
    config = curate_config(min_samples_per_category=1000, name="stopped")
    with pytest.raises(GateFailed):
        curate(config=config)
    workspace = config.execution.workspace
    directory = find_curation("stopped", workspace)
    assert directory.parent.name == "curate"
    with pytest.raises(ArtifactMissing, match="stopped by the gate data/categories"):
        find_dataset("stopped", workspace)
    assert "email" in _run("show", "stopped", workspace=workspace)


def test_a_restored_dataset_is_shown_and_published_from_its_record(workspace: Path, tmp_path: Path) -> None:
    directory = _restored(workspace)
    shown = _run("show", "tiny", workspace=workspace)
    assert "what was rejected is not known" in shown and "kept: vqa" in shown
    with pytest.raises(ConfigError, match="nothing is known to be rejected for 'email'"):
        _run("show", "tiny", "--reason", "email", workspace=workspace)
    _run("publish", "tiny", str(tmp_path / "published"), workspace=workspace)
    card = (tmp_path / "published" / "README.md").read_text()
    metrics = json.loads((directory / "record.json").read_text())["metrics"]
    assert f"{metrics['rejected']:,.0f} samples were rejected" in card
    assert "The reasons are in the logs" in card
    assert f"| text | {metrics['funnel/text/in']:.0f} | {metrics['funnel/text/out']:.0f} |  |" in card


def test_publish_of_a_record_without_its_files_says_so(workspace: Path, tmp_path: Path) -> None:
    shutil.rmtree(_directory(workspace) / "output")
    with pytest.raises(ArtifactMissing, match="the files of 'tiny' are gone"):
        _run("publish", "tiny", str(tmp_path / "published"), workspace=workspace)


def test_publish_takes_the_newest_mixture_of_exactly_this_dataset(workspace: Path, tmp_path: Path) -> None:
    dataset = find_dataset("tiny", workspace)
    assert find_mixture(dataset, workspace) is None
    for place, (digest, started, weight) in enumerate(
        [
            (dataset.digest, "2026-01-02", 0.375),
            (dataset.digest, "2026-01-01", 0.5),
            ("0" * 64, "2026-02-01", 0.75),
        ]
    ):
        folder = workspace / ".opsin" / "artifacts" / "ablate" / str(place)
        folder.mkdir(parents=True)
        record = json.loads(Path(dataset.record).read_text())
        record |= {"stage": "ablate", "started": started}
        record["parents"] = [
            {"name": "dataset", "kind": "dataset", "digest": digest, "record": dataset.record}
        ]
        files = {"uri": str(folder), "digest": str(place) * 64, "record": str(folder / "record.json")}
        record["artifact"] = files | {"kind": "mixture", "name": "optimum", "weights": {"vqa": weight}}
        (folder / "record.json").write_text(json.dumps(record))
    _run("publish", "tiny", str(tmp_path / "published"), workspace=workspace)
    assert "| 0.375 |" in (tmp_path / "published" / "README.md").read_text()


def test_of_two_curations_the_newest_is_meant(workspace: Path) -> None:
    first = _directory(workspace)
    second = first.with_name("f" * 16)
    shutil.copytree(first, second)
    for directory, when in ((first, 2_000_000_000), (second, 1_900_000_000)):
        for path in (directory / "record.json", directory / "logs" / "funnel.json"):
            os.utime(path, (when, when))
    assert find_curation("tiny", workspace) == first
