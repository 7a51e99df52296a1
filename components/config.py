"""Config: hand-written TOML, parsed into one frozen model per stage.

Identity and execution are apart: fields marked `execution_field` and the `[execution]` section never
change the bytes of a result and are left out of fingerprints.

    config = load("configs/cpu.toml", ["align.beta=0.2"])
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from components.errors import ConfigError


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

    download_cache: str = ""
    """Folder of fetched source packages, shared between workspaces; empty: in `.opsin/`."""

    @property
    def home(self) -> Path:
        return self.workspace.resolve() / ".opsin"

    @property
    def artifacts(self) -> Path:
        return self.home / "artifacts"

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
        kept[name] = _identity(value) if isinstance(value, BaseModel) else dumped[name]
    return kept


class SourceConfig(Frozen):
    """One raw source: where it is, how it is read, and what it becomes."""

    locator: str = Field(pattern=r"^(pypi|npm):.+==.+$")
    """`pypi:NAME==VERSION` or `npm:NAME==VERSION`; exact versions only."""
    reader: Literal["easy_vqa", "emoji", "digits", "tables"]
    category: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    """Mixture component that its samples belong to."""
    limit: int = Field(0, ge=0)
    """Samples to take at most (a seeded choice per split); 0 takes all."""
    options: dict[str, str | int | float | bool | list[str]] = Field(default_factory=dict)
    """What the reader wants besides, for example `vendor` or `held_out` of emoji."""


class CurateConfig(StageConfig):
    """Raw sources → versioned, gated, deduplicated WebDataset shards."""

    name: str = Field("dataset", pattern=r"^[a-z][a-z0-9-]*$")
    """Name of the dataset; DVC tracks it as `data/<name>`."""
    sources: tuple[SourceConfig, ...] = Field(min_length=1)
    image_size: int = Field(64, ge=16, le=4096)
    """Side in pixels that sources are rendered at."""
    samples_per_shard: int = Field(1000, ge=1)
    phash_distance: int = Field(0, ge=0, le=16)
    """Hamming distance of 64-bit perceptual hashes up to which two images count as near duplicates."""
    min_samples_per_category: int = Field(50, ge=1)
    """The data gate fails when a category keeps fewer training samples."""
    max_rejected_share: float = Field(0.5, ge=0, le=1)
    """The data gate fails when a larger share of all samples was rejected."""
    remote: str = execution_field("", description="DVC remote URL; empty: a local directory in .opsin/")


class ModelConfig(Frozen):
    """An Idefics3-architecture model built from scratch."""

    vocab_size: int = Field(2048, ge=300)
    image_size: int = Field(64, ge=16)
    patch_size: int = Field(8, ge=2)
    vision_layers: int = Field(4, ge=1)
    vision_width: int = Field(128, ge=16)
    vision_heads: int = Field(4, ge=1)
    scale_factor: int = Field(2, ge=1)
    """Pixel shuffle: this many image patches squared become one image token."""
    text_layers: int = Field(5, ge=1)
    text_width: int = Field(192, ge=16)
    text_heads: int = Field(6, ge=1)
    text_kv_heads: int = Field(6, ge=1)
    text_mlp: int = Field(512, ge=16)
    max_positions: int = Field(1024, ge=64)

    @model_validator(mode="after")
    def _shapes_fit(self) -> ModelConfig:
        if self.text_width % self.text_heads or (self.text_width // self.text_heads) % 32:
            raise ValueError("text_width / text_heads must be a multiple of 32 (vLLM's CPU attention)")
        if self.image_size % (self.patch_size * self.scale_factor):
            raise ValueError("image_size must be a multiple of patch_size * scale_factor")
        return self

    @property
    def image_tokens(self) -> int:
        """Image tokens per image."""
        return (self.image_size // self.patch_size // self.scale_factor) ** 2


class Phase(Frozen):
    """One phase of pretraining."""

    name: str
    trainable: tuple[Literal["vision", "connector", "language"], ...] = Field(min_length=1)
    steps: int = Field(ge=1)
    learning_rate: float = Field(gt=0, le=1)
    warmup_share: float = Field(0.05, ge=0, le=1)


class PretrainConfig(StageConfig):
    """Dataset + mixture → checkpoint, from scratch, with packed sequences."""

    model: ModelConfig = ModelConfig()
    phases: tuple[Phase, ...] = Field(min_length=1)
    pack_tokens: int = Field(1024, ge=64)
    """Tokens per pack."""
    pack_images: int = Field(16, ge=1)
    """Images per pack at most."""
    packs_per_step: int = Field(4, ge=1)
    text_only_share: float = Field(0.1, ge=0, lt=1)
    """Share of the samples shown without their image, so that the question-only baseline asks the model
    something it has seen."""
    weight_decay: float = Field(0.05, ge=0)
    clip_norm: float = Field(1.0, gt=0)
    checkpoint_every_s: float = execution_field(20.0, gt=0)
    """Seconds between resumption checkpoints."""
    log_every: int = execution_field(10, ge=1)
    """Optimizer steps between logged metrics."""
    validation_samples: int = Field(200, ge=10)
    """Validation samples per category for the closing loss."""
    min_end_token_rate: float = Field(0.5, ge=0, le=1)
    """Share of validation answers that must end by themselves when training has ended."""


class AblateConfig(StageConfig):
    """Proxy runs over mixtures → the mixture that training uses."""

    proxies: int = Field(6, ge=6)
    """Proxy runs besides the stratified baseline."""
    steps: int = Field(60, ge=1)
    """Optimizer steps of a proxy run."""
    packs_per_step: int = Field(1, ge=1)
    """Packs of a proxy's step; fewer than pretraining's, so that few tokens still make many steps."""
    validation_samples: int = Field(100, ge=10)
    """Validation samples per category that a proxy's losses are taken over."""
    concentration: float = Field(2.0, gt=0)
    """Dirichlet concentration around the stratified mixture: smaller explores further."""
    min_share: float = Field(0.05, ge=0, le=0.5)
    """Floor of every category."""
    min_rank_correlation: float = Field(0.3, ge=-1, le=1)
    """Under this leave-one-out Spearman correlation the stratified mixture is kept."""
    bootstrap: int = Field(2000, ge=100)
    """Resamples of the predicted gain's interval."""
    confidence: float = Field(0.95, gt=0.5, lt=1)
    objective: dict[str, float] = Field(default_factory=dict)
    """Category → weight in the objective, a mean of validation losses, each relative to the stratified
    run's; empty: equal weights."""


class LoraConfig(Frozen):
    """Low-rank adapters, merged into the checkpoint when the stage ends."""

    rank: int = Field(16, ge=1)
    alpha: int = Field(32, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)


class SftConfig(StageConfig):
    """Checkpoint + dataset → checkpoint, TRL's SFTTrainer with PEFT on packed data."""

    lora: LoraConfig = LoraConfig()
    steps: int = Field(200, ge=1)
    learning_rate: float = Field(1e-3, gt=0, le=1)
    warmup_share: float = Field(0.05, ge=0, lt=1)
    """Share of the steps over which the learning rate rises; a cosine takes it down again."""
    pack_tokens: int = Field(1024, ge=64)
    pack_images: int = Field(16, ge=1)
    packs_per_step: int = Field(4, ge=1)
    text_only_share: float = Field(0.1, ge=0, lt=1)
    """Share of the samples shown without their image, so that the question-only baseline asks the model
    something it has seen."""
    log_every: int = execution_field(10, ge=1)
    checkpoint_every_s: float = execution_field(20.0, gt=0)
    """Seconds between resumption checkpoints."""


class SamplingConfig(Frozen):
    """How the model's own answers are sampled and made into preference pairs."""

    prompts: int = Field(400, ge=8)
    """Training questions that the model answers to make preference pairs."""
    samples_per_prompt: int = Field(4, ge=1)
    temperature: float = Field(1.0, gt=0)
    max_new_tokens: int = Field(24, ge=1)
    sampling_batch: int = Field(64, ge=1)
    """Answers generated at once; identity, because the random numbers are drawn per batch."""
    min_pairs: int = Field(16, ge=2)
    """The gate fails with fewer preference pairs than this."""


class PreferConfig(SamplingConfig, StageConfig):
    """Checkpoint + dataset → preference pairs: what `[align]` says about sampling, and nothing else,
    so that a changed beta does not sample again."""


PreferenceLoss = Literal[
    "sigmoid", "sigmoid_norm", "hinge", "ipo", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot",
    "aot_unpaired", "apo_zero", "apo_down", "discopop", "sft",
]  # fmt: skip


class AlignConfig(SamplingConfig, StageConfig):
    """Checkpoint + preferences → checkpoint, TRL's DPOTrainer with the MPO loss."""

    lora: LoraConfig = LoraConfig()
    beta: float = Field(0.1, gt=0)
    losses: tuple[PreferenceLoss, ...] = Field(("sigmoid", "bco_pair", "sft"), min_length=1)
    """Terms of the loss as TRL names them; these three at 0.8, 0.2, 1.0 are MPO (arXiv:2411.10442)."""
    loss_weights: tuple[float, ...] = (0.8, 0.2, 1.0)
    steps: int = Field(60, ge=1)
    batch_size: int = Field(8, ge=1)
    """Preference pairs per step."""
    learning_rate: float = Field(2e-4, gt=0, le=1)
    warmup_share: float = Field(0.05, ge=0, lt=1)
    held_out_share: float = Field(0.2, gt=0, lt=1)
    """Share of the images whose pairs are not trained on; the gate measures preference accuracy there."""
    log_every: int = execution_field(5, ge=1)
    checkpoint_every_s: float = execution_field(20.0, gt=0)
    """Seconds between resumption checkpoints."""

    @model_validator(mode="after")
    def _one_weight_per_loss(self) -> AlignConfig:
        if len(self.losses) != len(self.loss_weights):
            raise ValueError("losses and loss_weights must have the same length")
        return self

    @property
    def sampling(self) -> PreferConfig:
        """The config of the `prefer` stage."""
        shared = {name: getattr(self, name) for name in PreferConfig.model_fields}
        return PreferConfig.model_validate(shared)


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
    min_gain_blocks: tuple[str, ...] = ("align",)
    """Evaluations (by the stage scored) at which a missed `min_gain` stops the flow."""


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


def load(path: Path, overrides: Sequence[str] = ()) -> LifecycleConfig:
    """Read a TOML config and apply `section.key=value` overrides (values are TOML).

    Raises:
        ConfigError: file missing, not TOML, unknown key, value out of range; names key and allowed values.
    """
    if not path.is_file():
        near = ", ".join(sorted(str(p) for p in path.parent.glob("*.toml"))) or "none"
        raise ConfigError(f"no config file {path}", fix=f"configs beside it: {near}")
    try:
        data = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"not valid TOML: {error}", where=str(path), fix="mend the line named") from error
    for override in overrides:
        _set(data, override)
    try:
        return LifecycleConfig.model_validate(data)
    except ValidationError as error:
        raise _explain(error, path) from error


def _set(data: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(
            f"--set wants section.key=value, got '{override}'", fix="for example --set align.beta=0.2"
        )
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    node: Any = data
    try:
        for part in parts[:-1]:
            node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
        node[int(parts[-1]) if isinstance(node, list) else parts[-1]] = value
    except (ValueError, IndexError, AttributeError, TypeError) as error:
        have = f"a list of {len(node)}, numbered from 0" if isinstance(node, list) else f"the value {node!r}"
        raise ConfigError(f"--set {key.strip()}: no such key; its section is {have}") from error


def _explain(error: ValidationError, path: Path) -> ConfigError:
    """One line per problem: key, what is wrong, what is allowed."""
    lines, seen = [], set()
    for problem in error.errors():
        location = [str(part) for part in problem["loc"]]
        key = ".".join(location)
        if problem["type"] == "extra_forbidden":
            text = f"{key}: unknown key; allowed here: {', '.join(_keys(location[:-1]))}"
        else:
            text = f"{key}: {problem['msg']} (got {problem['input']!r:.80})"
        if text not in seen:
            seen.add(text)
            lines.append(text)
    return ConfigError(
        "the config cannot be run:\n  - " + "\n  - ".join(lines), where=str(path), fix="mend the keys named"
    )


def _keys(location: Sequence[str]) -> list[str]:
    """Allowed keys of the section at `location`."""
    model: Any = LifecycleConfig
    for part in location:
        if part.isdigit():
            continue
        model = model.model_fields[part].annotation
        arguments = getattr(model, "__args__", None)
        if arguments:
            model = arguments[0]
    return list(getattr(model, "model_fields", {}))
