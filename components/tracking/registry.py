"""Registered model versions and the aliases that move them: candidate → canary → champion.

    registry = Registry.open(uri, model="opsin-vlm", artifacts=home / "mlflow-artifacts")
    version = registry.register(directory, digest=..., tags=...)
    registry.move(version, "promoted")

The rules (which alias moves when) are data: `mlflow/registry.toml`.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from components.errors import ArtifactMissing, ConfigError
from components.fingerprint import ROOT

RULES = ROOT / "mlflow" / "registry.toml"
DIGEST, RECORD, REPLACED = "opsin.digest", "opsin.record", "opsin.replaced"
RELEASE = "opsin.release"
"""Record of the deploy stage that gave the version its verdict."""
Event: TypeAlias = Literal["registered", "canary", "promoted", "rolled_back", "inconclusive"]


@dataclass(frozen=True)
class Version:
    """One version of a registered model."""

    model: str
    version: str
    source: str
    """URI of its files."""
    tags: dict[str, str]

    @property
    def digest(self) -> str:
        return self.tags.get(DIGEST, "")


@dataclass(frozen=True)
class Registry:
    """One registered model in MLflow."""

    client: MlflowClient
    uri: str
    model: str
    artifacts: Path
    """Where files go when the store is a local database; a server decides for itself."""

    @classmethod
    def open(cls, uri: str, *, model: str, artifacts: Path) -> Registry:
        """Connect; makes nothing."""
        return cls(MlflowClient(tracking_uri=uri, registry_uri=uri), uri, model, artifacts)

    def at(self, alias: str) -> Version | None:
        """The version that has `alias`, if any."""
        try:
            return _version(self.client.get_model_version_by_alias(self.model, alias))
        except MlflowException as error:
            if error.error_code in ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"):
                return None
            raise

    def aliases(self, version: Version) -> list[str]:
        """Aliases that `version` has now."""
        return sorted(self.client.get_model_version(self.model, version.version).aliases)

    def find(self, digest: str) -> Version | None:
        """The version that holds the content with this digest, if any."""
        found = self.client.search_model_versions(f"name = '{self.model}'")
        return next((_version(each) for each in found if each.tags.get(DIGEST) == digest), None)

    def register(self, directory: Path, *, digest: str, tags: dict[str, str]) -> Version:
        """A version that holds the files of `directory`. Content registered before keeps its version.

        Args:
            directory: What a server loads; uploaded whole.
            digest: Content digest of the artifact it belongs to; what tells versions apart.
            tags: The other required tags (see `mlflow/registry.toml`) and what else is worth keeping.
        """
        everything = {DIGEST: digest, **tags}
        required: list[str] = _rules()["tags"]["required"]
        missing = [name for name in required if name not in everything]
        assert not missing, f"a version needs the tags {missing}"
        known = self.find(digest)
        if known is None:
            known = self._create(directory, everything)
        else:
            for key, value in everything.items():
                self.client.set_model_version_tag(self.model, known.version, key, value)
        return self.move(known, "registered")

    def move(self, version: Version, event: Event) -> Version:
        """Move the aliases as the rules say for `event`; gives the version as it is now.

        A promoted version remembers the digest of the champion it replaced.
        """
        rule = _rules()["on"][event]
        if "champion" in rule["set"]:
            champion = self.at("champion")
            if champion is None or champion.version != version.version:
                self.tag(version, REPLACED, champion.digest if champion else "")
        for alias in rule["set"]:
            self.client.set_registered_model_alias(self.model, alias, version.version)
        for alias in rule["drop"]:
            holder = self.at(alias)
            if holder is not None and holder.version == version.version:
                self.client.delete_registered_model_alias(self.model, alias)
        return _version(self.client.get_model_version(self.model, version.version))

    def tag(self, version: Version, key: str, value: str) -> None:
        self.client.set_model_version_tag(self.model, version.version, key, value[:5000])

    def fetch(self, version: Version, directory: Path) -> Path:
        """The version's files on this machine (downloaded into `directory` unless they are local)."""
        directory.mkdir(parents=True, exist_ok=True)
        if version.source.startswith("file:"):
            return Path(download_artifacts(version.source, tracking_uri=self.uri))
        return Path(download_artifacts(version.source, dst_path=str(directory), tracking_uri=self.uri))

    def _create(self, directory: Path, tags: dict[str, str]) -> Version:
        logged = self.client.create_logged_model(self._experiment(), name=self.model, tags=tags)
        self.client.log_model_artifacts(logged.model_id, str(directory))
        self.client.finalize_logged_model(logged.model_id, "READY")
        if not self.client.search_registered_models(f"name = '{self.model}'"):
            self.client.create_registered_model(self.model)
        # The location and not `models:/<id>`: MLflow 3.17 resolves that against the process-wide
        # tracking store, which need not be this one.
        return _version(self.client.create_model_version(self.model, logged.artifact_location, tags=tags))

    def _experiment(self) -> str:
        found = self.client.get_experiment_by_name(self.model)
        if found:
            return str(found.experiment_id)
        location = self.artifacts.as_uri() if _local(self.uri) else None
        return str(self.client.create_experiment(self.model, artifact_location=location))


def incumbent(uri: str, model: str, candidate: str) -> str:
    """Digest of the champion that content `candidate` (a digest) faces; "" when there is none.

    Where the candidate is the champion already, the one it replaced: so a release that was promoted keeps
    its identity, and the same command again finds it done.
    """
    if _local(uri) and not Path(uri.removeprefix("sqlite:///")).is_file():
        return ""
    champion = Registry.open(uri, model=model, artifacts=Path()).at("champion")
    if champion is None:
        return ""
    return champion.tags.get(REPLACED, "") if champion.digest == candidate else champion.digest


def version_of(uri: str, model: str, reference: str) -> Version:
    """The version of a model that a number or an alias names.

    Raises:
        ArtifactMissing: no such model, version or alias.
    """
    registry = Registry.open(uri, model=model, artifacts=Path())
    if reference.isdigit():
        found = registry.client.search_model_versions(f"name = '{model}' and version_number = {reference}")
        version = _version(found[0]) if found else None
    else:
        version = registry.at(reference)
    if version is None:
        allowed = ", ".join(_rules()["aliases"])
        raise ArtifactMissing(
            f"no model version '{model}@{reference}'",
            where=uri,
            fix=f"name a version number or an alias ({allowed}), for example {model}@champion",
        )
    return version


def record_of(uri: str, model: str, reference: str) -> Path:
    """Path of the lineage record of a version, by its number or an alias: of its release, or,
    before it has a verdict, of its bundle.

    Raises:
        ArtifactMissing: no such model, version or alias.
    """
    version = version_of(uri, model, reference)
    release = Path(version.tags.get(RELEASE, ""))
    return release if release.is_file() else Path(version.tags[RECORD])


def _version(found: ModelVersion) -> Version:
    assert found.source is not None, "a version of ours always has its files"
    return Version(found.name, str(found.version), found.source, dict(found.tags))


def _local(uri: str) -> bool:
    return uri.startswith("sqlite:///")


def _rules() -> dict[str, Any]:
    if not RULES.is_file():
        raise ConfigError(
            "the registry's rules are missing", where=str(RULES), fix="restore mlflow/registry.toml"
        )
    return tomllib.loads(RULES.read_text())
