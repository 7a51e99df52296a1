"""What the arms serve, and bringing them up: directory, contract, version; healthy and warmed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from components.artifacts import Checkpoint
from components.config import DeployConfig
from components.deploy import vllm
from components.deploy.replay import Question, ask, connect
from components.errors import ArtifactMissing, ServerError
from components.progress import Bar
from components.tracking.registry import Registry, Version

CONTRACT = "opsin.contract"


@dataclass(frozen=True)
class Side:
    """A directory that an arm serves, and the contract it must keep."""

    directory: Path
    contract: str
    version: str
    """Version in the registry; empty for the baseline checkpoint."""


def open_registry(config: DeployConfig) -> Registry:
    """The registry that the config names; by default SQLite and files in the workspace."""
    home = config.execution.home
    home.mkdir(parents=True, exist_ok=True)
    uri = config.tracking_uri or f"sqlite:///{home / 'mlflow.db'}"
    return Registry.open(uri, model=config.model_name, artifacts=home / "mlflow-artifacts")


def stable_side(registry: Registry, champion: str, baseline: Checkpoint, scratch: Path) -> Side:
    """What the stable arm serves: the champion with the digest `champion`; when that is "", `baseline`.

    Raises:
        ArtifactMissing: the registry holds no such version.
    """
    if not champion:
        return Side(baseline.path, baseline.contract, "")
    version = registry.find(champion)
    if version is None:
        raise ArtifactMissing(
            f"no version of '{registry.model}' holds the champion {champion[:16]}",
            where=registry.uri,
            fix="look at the registry (`mlflow ui`); the alias champion must point to a version of opsin's",
        )
    return registered_side(registry, version, scratch)


def registered_side(registry: Registry, version: Version, scratch: Path) -> Side:
    """A registered version, its files on this machine (below `scratch` where they are not already)."""
    directory = registry.fetch(version, scratch / "champion")
    return Side(directory, version.tags[CONTRACT], version.version)


def make_ready(arms: dict[str, vllm.Arm], config: DeployConfig, question: Question) -> dict[str, ServerError]:
    """Wait for both servers and warm each with a real request; arm name → why it does not serve."""
    with Bar("start vLLM", total=len(arms), unit="server") as bar:
        failed = vllm.wait_ready(list(arms.values()), timeout_s=config.start_timeout_s, bar=bar)
    for name, arm in arms.items():
        if name not in failed:
            error = asyncio.run(_warm(arm, config, question))
            if error:
                failed[name] = ServerError(
                    f"{arm.server.name} is up but cannot answer: {error}", where=str(arm.server.log)
                )
    return failed


async def _warm(arm: vllm.Arm, config: DeployConfig, question: Question) -> str:
    async with connect(f"http://{arm.address}/v1", config) as client:
        last = (await ask(client, question, config))[-1]
        return "" if last.answered else last.error
