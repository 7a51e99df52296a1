"""The sections that judge and release one: `[evaluate]`, `[quantize]`, `[export]`, `[deploy]`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from components.config.base import StageConfig, execution_field


class EvaluateConfig(StageConfig):
    """Held-out questions → scores with intervals."""

    samples_per_group: int = Field(400, ge=10)
    """Held-out questions per group at most (a seeded choice, the same for every checkpoint)."""
    max_new_tokens: int = Field(24, ge=1)
    batch_size: int = Field(64, ge=1)
    bootstrap: int = Field(1000, ge=100)
    """Bootstrap resamples of an interval."""
    confidence: float = Field(0.95, gt=0.5, lt=1)
    regression_budget: float = Field(0.05, ge=0, le=1)
    """A group may score at most this less than the stage before; more, beyond noise, fails the gate."""
    min_end_token_rate: float = Field(0.9, ge=0, le=1)
    """Share of generations that must end by themselves."""
    min_gain: dict[str, float] = Field(default_factory=dict)
    """Group (`<category>/<group>`) → share of questions that the model must gain over the question-only
    baseline, the interval excluding zero. Reported at every evaluation."""
    without_image: tuple[str, ...] = ()
    """Categories, or groups (`<category>/<group>`), whose questions the model answers once more without their
    picture. The gate `sees_image` wants the paired gain of seeing it to exclude zero in every such group; it
    stops the flow where `min_gain_blocks` says so."""
    min_gain_blocks: tuple[str, ...] = ("align",)
    """Evaluations (by the stage scored) at which a missed `min_gain` or `sees_image` stops the flow."""


class QuantizeConfig(StageConfig):
    """Checkpoint → compressed checkpoint, llm-compressor in its own environment."""

    scheme: Literal["W8A8"] = "W8A8"
    calibration_samples: int = Field(128, ge=8)
    """Training samples, drawn by the mixture's weights, that scales and Hessians are taken from."""
    smoothing_strength: float = Field(0.5, ge=0, le=1)
    """SmoothQuant's alpha: how much of the activations' range moves into the weights."""
    margin: float = Field(0.03, gt=0, le=1)
    """The quantized model may lose at most this (paired, upper bound) or the unquantized one is kept."""


class ExportConfig(StageConfig):
    """Checkpoint → bundle: vLLM-ready safetensors and ONNX, each compared with PyTorch."""

    parity_samples: int = Field(8, ge=1)
    tolerance: float = Field(1e-3, gt=0)
    """Largest absolute difference of logits allowed between PyTorch and onnxruntime."""


class DeployConfig(StageConfig):
    """Bundle → release: two vLLM servers behind Caddy, and a verdict."""

    model_name: str = Field("opsin-vlm", pattern=r"^[a-z][a-z0-9-]*$")
    """Registered model in MLflow."""
    weights: tuple[Annotated[float, Field(ge=0.01, le=0.99)], ...] = Field((0.1, 0.3, 0.6), min_length=1)
    """Canary's share of traffic, step by step."""
    requests_per_step: int = Field(600, ge=10)
    looks_per_step: int = Field(3, ge=1)
    """Times per step that both arms are compared; each look may roll back, only the last may promote."""
    concurrency: int = Field(4, ge=1)
    """Requests in flight at once."""
    max_new_tokens: int = Field(24, ge=1)
    alpha: float = Field(0.05, gt=0, lt=0.5)
    """Chance of a wrong rollback over the whole canary, and of a wrong promotion."""
    max_error_rate_increase: float = Field(0.02, ge=0, le=1)
    """Canary's share of failed requests minus the champion's, at most."""
    max_accuracy_drop: float = Field(0.10, ge=0, le=1)
    """Champion's share of right answers minus the canary's, at most."""
    max_ttft_ratio: float = Field(2.0, gt=1)
    """Canary's median time to first token over stable's, at most."""
    max_model_len: int = Field(512, ge=64)
    """Tokens that a prompt and its answer may have together."""
    keep_serving: bool = execution_field(False)
    """Leave the champion serving when the flow has ended (`opsin stop` ends it)."""
    port: int = execution_field(8090, ge=0, le=65535)
    """Port of the gateway that is left serving (0: a free one); during the canary it uses a free one."""
    start_timeout_s: float = execution_field(300.0, gt=0)
    """Seconds that both servers together get to come up."""
    request_timeout_s: float = execution_field(60.0, gt=0)
    tracking_uri: str = execution_field("", description="MLflow; empty: SQLite in .opsin/")
