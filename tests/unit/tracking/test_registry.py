"""Model versions and aliases in a real MLflow store (SQLite)."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.errors import ArtifactMissing
from components.tracking.registry import RECORD, Registry, Version, incumbent, record_of

MODEL = "opsin-vlm"
TAGS = {RECORD: "bundle/record.json", "opsin.fingerprint": "f" * 64, "opsin.dataset_version": "tiny@0"}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    home = tmp_path_factory.mktemp("home")
    return Registry.open(f"sqlite:///{home}/mlflow.db", model=MODEL, artifacts=home / "mlflow-artifacts")


def register(registry: Registry, directory: Path, digest: str) -> Version:
    (directory / "model.safetensors").write_text(digest)
    return registry.register(directory, digest=digest, tags=TAGS)


def test_incumbent_without_a_store_is_empty_and_makes_none(tmp_path: Path) -> None:
    assert incumbent(f"sqlite:///{tmp_path}/mlflow.db", MODEL, "a") == ""
    assert list(tmp_path.iterdir()) == []


def test_registry_release_and_rollback_move_the_aliases(registry: Registry, tmp_path: Path) -> None:
    first = register(registry, tmp_path, "digest-one")
    assert registry.aliases(first) == ["candidate"]
    assert (registry.fetch(first, tmp_path / "x") / "model.safetensors").read_text() == "digest-one"
    assert registry.aliases(registry.move(first, "canary")) == ["canary"]
    assert registry.aliases(registry.move(first, "promoted")) == ["champion"]

    assert incumbent(registry.uri, MODEL, "digest-two") == "digest-one"
    second = register(registry, tmp_path, "digest-two")
    registry.move(second, "canary")
    registry.move(second, "rolled_back")
    assert registry.aliases(second) == []
    champion = registry.at("champion")
    assert champion is not None and champion.digest == "digest-one"
    assert registry.at("canary") is None

    registry.move(second, "canary")
    registry.move(second, "promoted")
    assert registry.aliases(first) == []
    # Promoted, it still faces the champion that it replaced: its release keeps its identity.
    assert incumbent(registry.uri, MODEL, "digest-two") == "digest-one"
    assert incumbent(registry.uri, MODEL, "digest-three") == "digest-two"


def test_registry_known_content_keeps_its_version(registry: Registry, tmp_path: Path) -> None:
    one = register(registry, tmp_path, "same")
    assert register(registry, tmp_path, "same").version == one.version
    found = registry.find("same")
    assert found is not None and found.version == one.version


def test_registry_inconclusive_goes_back_to_candidate(registry: Registry, tmp_path: Path) -> None:
    version = register(registry, tmp_path, "undecided")
    registry.move(version, "canary")
    assert registry.aliases(registry.move(version, "inconclusive")) == ["candidate"]


def test_record_of_finds_by_number_and_alias_and_refuses_others(registry: Registry, tmp_path: Path) -> None:
    version = register(registry, tmp_path, "looked-up")
    assert record_of(registry.uri, MODEL, version.version) == Path(TAGS[RECORD])
    assert record_of(registry.uri, MODEL, "candidate") == Path(TAGS[RECORD])
    for missing in ("999", "nonsense"):
        with pytest.raises(ArtifactMissing, match="no model version"):
            record_of(registry.uri, MODEL, missing)
