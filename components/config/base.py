"""What every section of a config is: frozen, strict, identity and execution apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


def execution_field(default: Any, **limits: Any) -> Any:
    """A field that says how to run, not what comes out; not part of the fingerprint."""
    return Field(default, json_schema_extra={"execution": True}, **limits)


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class Execution(Frozen):
    """How and where to run. Nothing here changes a result."""

    workspace: Path = Path(".")
    """Holds `.opsin/` (artifacts, databases, downloads), `runs/` and `data/`."""
    threads: int = Field(2, ge=1)
    """Threads for torch and for onnxruntime."""
    workers: int = Field(2, ge=1)
    """Processes for data work."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    engine: Literal["local", "ray"] = "local"
    """What data work runs on: processes of this machine, or a Ray cluster."""
    ray_address: str = ""
    """Address of a running Ray cluster (`auto`, `ray://HOST:PORT`); empty: one is started on this machine
    with `workers` processors."""

    download_cache: str = ""
    """Folder of fetched source packages, shared between workspaces; empty: in `.opsin/`."""

    @property
    def home(self) -> Path:
        return self.workspace.resolve() / ".opsin"

    @property
    def artifacts(self) -> Path:
        return self.home / "artifacts"

    @property
    def cache(self) -> Path:
        """What cost time or money and is kept for later runs."""
        return self.home / "cache"

    @property
    def downloads(self) -> Path:
        """Fetched source packages."""
        return Path(self.download_cache).resolve() if self.download_cache else self.home / "downloads"


class StageConfig(Frozen):
    """Base of every stage's config."""

    execution: Execution = Execution()
    seed: int = 0
    """Seed of everything random in the stage."""

    def identity(self) -> dict[str, Any]:
        """What decides the bytes of the result, as JSON values."""
        return _identity(self)


def _identity(model: BaseModel) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    dumped = model.model_dump(mode="json")
    for name, info in type(model).model_fields.items():
        extra = info.json_schema_extra
        if name == "execution" or (isinstance(extra, dict) and extra.get("execution")):
            continue
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            kept[name] = _identity(value)
        elif isinstance(value, tuple) and any(isinstance(item, BaseModel) for item in value):
            kept[name] = [_identity(item) for item in value]
        else:
            kept[name] = dumped[name]
    return kept
