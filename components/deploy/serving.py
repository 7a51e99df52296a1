"""What a release leaves running (`deploy.keep_serving`): its state file, and how to end it.

opsin status        opsin stop
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from components.artifacts import write_atomic
from components.config import DeployConfig
from components.deploy.gateway import Gateway
from components.deploy.vllm import Arm
from components.errors import ConfigError
from components.processes import Handle, port_taken


@dataclass(frozen=True)
class Serving:
    """A model version that is being served."""

    endpoint: str
    """Base URL for OpenAI clients, ending in /v1."""
    model: str
    version: str
    """Version in the registry; empty for a checkpoint that was never registered."""
    processes: dict[str, Handle]

    def __str__(self) -> str:
        version = f"@{self.version}" if self.version else " (the unquantized checkpoint)"
        pids = ", ".join(f"{name} {handle.pid}" for name, handle in self.processes.items())
        return f"{self.model}{version} at {self.endpoint} ({pids})"


def status(home: Path) -> Serving | None:
    """What is being served from this workspace, if all of it is alive.

    Args:
        home: The workspace's `.opsin` directory.
    """
    serving = _read(home)
    alive = serving is not None and all(handle.alive() for handle in serving.processes.values())
    return serving if alive else None


def stop(home: Path) -> bool:
    """End what is being served from this workspace; gives whether anything was running."""
    serving = _read(home)
    if serving is None:
        return False
    running = [handle for handle in serving.processes.values() if handle.alive()]
    for handle in running:
        handle.stop()
    _state(home).unlink(missing_ok=True)
    return bool(running)


def check_port(config: DeployConfig) -> None:
    """Refuse a port that another program has, before anything is started.

    Raises:
        ConfigError: `deploy.port` is taken, and not by what this workspace serves.
    """
    if config.keep_serving and config.port and port_taken(config.port):
        own = status(config.execution.home)
        if own is None or f":{config.port}/" not in own.endpoint:
            raise ConfigError(
                f"deploy.port {config.port} is in use by another program",
                fix="set another with --set deploy.port=…, or 0 for a free one",
            )


def hand_over(config: DeployConfig, gateway: Gateway, arm: Arm, version: str) -> Serving:
    """Let `arm` and the gateway live on after this process, in place of what was served before."""
    home = config.execution.home
    stop(home)
    if config.port:
        gateway.listen(config.port)
    handles = {"vllm": arm.server.detach(), "gateway": gateway.server.detach()}
    serving = Serving(gateway.endpoint, config.model_name, version, handles)
    write_atomic(_state(home), json.dumps(asdict(serving), indent=1))
    return serving


def _read(home: Path) -> Serving | None:
    path = _state(home)
    if not path.is_file():
        return None
    values = json.loads(path.read_text())
    values["processes"] = {name: Handle(**handle) for name, handle in values["processes"].items()}
    return Serving(**values)


def _state(home: Path) -> Path:
    return home / "serving.json"
