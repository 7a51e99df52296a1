"""All sections together: the config of a run."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from components.config.base import Execution, Frozen, execution_field
from components.config.data import CurateConfig
from components.config.release import DeployConfig, EvaluateConfig, ExportConfig, QuantizeConfig
from components.config.training import AblateConfig, AlignConfig, PretrainConfig, SftConfig


class TrackingConfig(Frozen):
    """Where runs and models are kept."""

    uri: str = execution_field("", description="MLflow tracking URI; empty: SQLite in .opsin/")
    experiment: str = execution_field("opsin")


SECTIONS = ("curate", "ablate", "pretrain", "sft", "align", "evaluate", "quantize", "export", "deploy")


class LifecycleConfig(Frozen):
    """The whole lifecycle: one section per stage."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    seed: int = 0
    """Seed of every stage that does not set its own."""
    execution: Execution = Execution()
    tracking: TrackingConfig = TrackingConfig()
    curate: CurateConfig
    ablate: AblateConfig
    pretrain: PretrainConfig
    sft: SftConfig
    align: AlignConfig
    evaluate: EvaluateConfig
    quantize: QuantizeConfig
    export: ExportConfig
    deploy: DeployConfig

    @model_validator(mode="before")
    @classmethod
    def _shared(cls, data: Any) -> Any:
        """Hand `seed` and `[execution]` on to every stage that does not set its own."""
        if isinstance(data, dict):
            data = dict(data)
            for name in SECTIONS:
                section = data.get(name) or {}
                if not isinstance(section, dict):
                    continue  # refused by name below
                section = dict(section)
                section.setdefault("seed", data.get("seed", 0))
                section.setdefault("execution", data.get("execution", {}))
                data[name] = section
                if name == "curate":
                    section.setdefault("name", data.get("name"))
                if name == "deploy" and isinstance(data.get("tracking"), dict):
                    section.setdefault("tracking_uri", data["tracking"].get("uri", ""))
        return data

    @model_validator(mode="after")
    def _categories_exist(self) -> LifecycleConfig:
        """What names a category names one that a source gives."""
        known = {source.category for source in self.curate.sources}
        named = {
            "ablate.objective": list(self.ablate.objective),
            "pretrain.max_shift": list(self.pretrain.max_shift),
            "align.categories": list(self.align.categories),
            "evaluate.min_gain": [group.partition("/")[0] for group in self.evaluate.min_gain],
        }
        for key, names in named.items():
            unknown = sorted(set(names) - known)
            if unknown:
                raise ValueError(
                    f"{key}: no source has the category {', '.join(unknown)}; "
                    f"categories: {', '.join(sorted(known))}"
                )
        return self
