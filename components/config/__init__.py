"""Config: hand-written TOML, parsed into one frozen model per stage.

Identity and execution are apart: fields marked `execution_field` and the `[execution]` section never
change the bytes of a result and are left out of fingerprints.

    config = load("configs/cpu.toml", ["align.beta=0.2"])
"""

from components.config.ablate import AblateConfig, PredictorName
from components.config.base import Execution, Frozen, StageConfig, execution_field
from components.config.data import CurateConfig, SourceConfig
from components.config.distill import DistillConfig, DistillText, DistillWeights, SftDistillConfig
from components.config.images import ImageLimits
from components.config.lifecycle import SECTIONS, LifecycleConfig, TrackingConfig
from components.config.loading import load, to_toml
from components.config.model import ModelConfig
from components.config.pretrain import Phase, PretrainConfig, WatchConfig
from components.config.release import DeployConfig, EvaluateConfig, ExportConfig, QuantizeConfig
from components.config.text import TextFilter
from components.config.training import (
    AlignConfig,
    LoraConfig,
    PreferConfig,
    SamplingConfig,
    SftConfig,
)

__all__ = [
    "SECTIONS",
    "AblateConfig",
    "AlignConfig",
    "CurateConfig",
    "DeployConfig",
    "DistillConfig",
    "DistillText",
    "DistillWeights",
    "EvaluateConfig",
    "Execution",
    "ExportConfig",
    "Frozen",
    "ImageLimits",
    "LifecycleConfig",
    "LoraConfig",
    "ModelConfig",
    "Phase",
    "PredictorName",
    "PreferConfig",
    "PretrainConfig",
    "QuantizeConfig",
    "SamplingConfig",
    "SftConfig",
    "SftDistillConfig",
    "SourceConfig",
    "StageConfig",
    "TextFilter",
    "TrackingConfig",
    "WatchConfig",
    "execution_field",
    "load",
    "to_toml",
]
