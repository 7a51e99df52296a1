"""All sections together: the config of a run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import Field, model_validator

from components.config.ablate import AblateConfig
from components.config.base import Execution, Frozen, execution_field
from components.config.data import CurateConfig
from components.config.pretrain import PretrainConfig
from components.config.release import DeployConfig, EvaluateConfig, ExportConfig, QuantizeConfig
from components.config.training import AlignConfig, SftConfig


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
        named: dict[str, Iterable[str]] = {
            "ablate.objective": self.ablate.objective,
            "pretrain.max_shift": self.pretrain.max_shift,
            "pretrain.max_epochs": self.pretrain.max_epochs,
            "pretrain.phases": [name for phase in self.pretrain.phases for name in phase.mixture],
            "align.categories": self.align.categories,
            "evaluate.without_image": [name.partition("/")[0] for name in self.evaluate.without_image],
            "evaluate.min_gain": [group.partition("/")[0] for group in self.evaluate.min_gain],
        }
        self.curate.check_categories(named.items())
        return self

    @model_validator(mode="after")
    def _proxies_have_a_model(self) -> LifecycleConfig:
        self.ablate.proxy_model(self.pretrain.model)
        return self

    def with_data(self, curate: CurateConfig) -> LifecycleConfig:
        """This config with what preflight left of the data, and without what names categories that are gone.

        `evaluate.min_gain` and `evaluate.without_image` stay as they are: what must be shown is not shown by
        data that are not there.
        """
        gone = {each.category for each in self.curate.sources} - {each.category for each in curate.sources}
        objective = {name: weight for name, weight in self.ablate.objective.items() if name not in gone}
        pretrain = self.pretrain
        changed = {
            "max_shift": {name: most for name, most in pretrain.max_shift.items() if name not in gone},
            "max_epochs": {name: most for name, most in pretrain.max_epochs.items() if name not in gone},
            "phases": tuple(
                phase.model_copy(
                    update={
                        "mixture": {name: each for name, each in phase.mixture.items() if name not in gone}
                    }
                )
                for phase in pretrain.phases
            ),
        }
        asked = tuple(name for name in self.align.categories if name not in gone)
        return self.model_copy(
            update={
                "curate": curate,
                "ablate": self.ablate.model_copy(update={"objective": objective}),
                "pretrain": pretrain.model_copy(update=changed),
                "align": self.align.model_copy(update={"categories": asked}),
            }
        )
