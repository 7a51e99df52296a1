"""The `[pretrain]` section: what is trained, on what, in which phases, and what is watched meanwhile."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import Field, field_validator, model_validator

from components.config.base import Frozen, StageConfig, execution_field
from components.config.distill import DistillConfig, DistillWeights
from components.config.model import ModelConfig

MAX_SHIFT = 127
"""Pixels."""
TrainedPart: TypeAlias = Literal["vision", "connector", "language"]


class Phase(Frozen):
    """One phase of pretraining."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$")
    trainable: tuple[TrainedPart, ...] = Field(min_length=1)
    steps: int = Field(0, ge=0)
    """Optimizer steps; or give `tokens`."""
    tokens: int = Field(0, ge=0)
    """Useful tokens (padding not counted) to train on, in whole steps."""
    learning_rate: float = Field(gt=0, le=1)
    learning_rates: dict[TrainedPart, float] = Field(default_factory=dict)
    """Part → its own learning rate, where it is another."""
    schedule: Literal["cosine", "wsd", "constant"] = "cosine"
    """After the warm-up: half a cosine down to 2%; warmup-stable-decay (the peak, then a linear fall over the
    last `decay_share`, arXiv:2405.18392); or the peak to the end."""
    warmup_share: float = Field(0.05, ge=0, le=1)
    decay_share: float = Field(0.2, gt=0, le=1)
    """Share of the steps over which `wsd` falls."""
    mixture: dict[str, float] = Field(default_factory=dict)
    """Category → weight in this phase (a curriculum); empty: the run's mixture."""
    distill: DistillWeights = DistillWeights()
    """What the terms of the loss count, where `pretrain.distill` names a teacher."""

    @model_validator(mode="after")
    def _one_length(self) -> Phase:
        if bool(self.steps) == bool(self.tokens):
            raise ValueError(f"phase '{self.name}': give either steps or tokens")
        return self

    @model_validator(mode="after")
    def _terms_and_parts_fit(self) -> Phase:
        trained, weights = set(self.trainable), self.distill
        if weights.vision and "vision" not in trained:
            raise ValueError(f"phase '{self.name}': distill.vision without the tower being trained")
        if weights.connector and not trained & {"vision", "connector"}:
            raise ValueError(
                f"phase '{self.name}': distill.connector without tower or connector being trained"
            )
        if "language" in trained and not weights.writes:
            raise ValueError(f"phase '{self.name}': the language model learns from `hard` or `logits` only")
        if "connector" in trained and not (weights.writes or weights.connector):
            raise ValueError(f"phase '{self.name}': nothing reaches the connector; give it a weight")
        return self

    @field_validator("learning_rates")
    @classmethod
    def _rates_positive(cls, rates: dict[str, float]) -> dict[str, float]:
        if any(not 0 < rate <= 1 for rate in rates.values()):
            raise ValueError("a learning rate lies between 0 and 1")
        return rates


class WatchConfig(Frozen):
    """What is measured while training runs, on held-out groups (never trained on, and never selected by)."""

    every: int = Field(0, ge=0)
    """Optimizer steps between measurements; 0: none."""
    samples_per_group: int = Field(64, ge=1)
    budget: float = Field(0.1, gt=0, le=1)
    """A group has regressed when its exact match fell by more than this below its best so far, and the paired
    bootstrap over the same questions does not take the fall for noise."""
    on_regression: Literal["report", "stop"] = "report"
    """`report` sends an event and goes on; `stop` fails the gate `no_regression`."""


class PretrainConfig(StageConfig):
    """Dataset + mixture → checkpoint, with packed sequences."""

    model: ModelConfig = ModelConfig()
    phases: tuple[Phase, ...] = ()
    """In their order; a config without any ends with `curate`."""
    pack_tokens: int = Field(1024, ge=64)
    """Tokens per pack."""
    pack_images: int = Field(16, ge=1)
    """Image tiles per pack at most."""
    packs_per_step: int = Field(4, ge=1)
    """Packs of an optimizer step, over all processes."""
    packing: Literal[
        "pooled", "balanced_knapsack", "greedy_knapsack", "next_fit", "constrained_pad", "pad"
    ] = "pooled"
    """How samples come into packs; the report compares all of them on the run's own data."""
    too_long: Literal["drop", "downscale", "error"] = "drop"
    """What becomes of a turn that exceeds a pack: dropped and counted, its pictures cut into fewer tiles, or
    refused. Nothing is ever cut inside a turn or an image."""
    mixture_by: Literal["tokens", "samples"] = "tokens"
    """Whether mixture weights are shares of labelled tokens (hence of the loss) or of samples."""
    max_epochs: dict[str, float] = Field(default_factory=dict)
    """Category → how often its samples are drawn at most; it leaves the mixture then. Others never end."""
    text_only_share: float = Field(0.1, ge=0, lt=1)
    """Share of the samples shown without their image, so that a chat without one is nothing new."""
    max_shift: dict[str, int] = Field(default_factory=dict)
    """Category → pixels that its training images, as the model reads them, are moved by at most, either way
    (augmentation)."""
    isolation: Literal["mask", "varlen"] = "mask"
    """What keeps samples of a pack apart: a mask under which the turns of a sample share its image, or
    sequence lengths (FlashAttention on GPUs), where every turn stands behind its own copy of the image."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """`muon` orthogonalizes the updates of the hidden layers' matrices (the rest takes AdamW): it learns
    from fewer tokens, and wants a processor with bfloat16 to be fast."""
    weight_decay: float = Field(0.05, ge=0)
    clip_norm: float = Field(1.0, gt=0)
    spike_factor: float = Field(50.0, gt=1)
    """A step whose gradient norm is this many times the running mean is skipped, as is one without a finite
    norm. Ten to twenty times the mean is what a high rate does now and then, and clipping answers to it."""
    max_skipped: int = Field(5, ge=1)
    """Skipped steps in a row after which training stops."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the matrix multiplications; weights and optimizer stay fp32. `auto` times both on this machine with
    this model and takes the faster; the record says which."""
    activation_checkpointing: bool = execution_field(False)
    """Compute activations again in the backward pass instead of keeping them."""
    packs_per_forward: int = execution_field(0, ge=0)
    """Packs of one forward; the gradients of a step's forwards add up. 0: all at once."""
    processes: int = execution_field(1, ge=1)
    """Processes that train together, started by `accelerate launch`; packs_per_step is theirs together."""
    accelerate: str = execution_field("infra/accelerate/cpu.yaml")
    """accelerate's config file for several processes: infra/accelerate/ has one for processors, GPUs (ddp),
    sharding over GPUs (fsdp) and over machines (nodes)."""
    pixels: Literal["cached", "streamed"] = execution_field("cached")
    """Decode every picture once into a file, or each time out of the shards."""
    loader_workers: int = execution_field(0, ge=0)
    """Processes that prepare batches ahead; 0: none."""
    cache_features: bool = True
    """Where no phase trains the vision tower or has a teacher, and no picture is moved (`max_shift`), compute
    its features once, in float16, and never run it again."""
    checkpoint_every_s: float = execution_field(20.0, gt=0)
    """Seconds between resumption checkpoints; more where a model is large: they take at most a twentieth of
    the time."""
    keep_checkpoints: int = execution_field(2, ge=1)
    """Resumption checkpoints that are kept."""
    log_every: int = execution_field(10, ge=1)
    """Optimizer steps between logged metrics."""
    validate_every: int = Field(0, ge=0)
    """Optimizer steps between validation losses; 0: only at the end."""
    select: Literal["last", "best"] = "last"
    """Which weights are given: the last, or those with the lowest validation loss (of `validate_every`)."""
    validation_samples: int = Field(200, ge=10)
    """Validation samples per category for the loss."""
    watch: WatchConfig = execution_field(WatchConfig())
    distill: DistillConfig | None = None
    """A teacher to learn from; the phases say what."""
    min_end_token_rate: float = Field(0.5, ge=0, le=1)
    """Share of validation answers that must end by themselves when training has ended."""

    @model_validator(mode="after")
    def _taught_by_somebody(self) -> PretrainConfig:
        taught = [phase.name for phase in self.phases if phase.distill.taught]
        if self.distill is not None:
            self.distill.check(bool(taught))
        elif taught:
            raise ValueError(f"phase '{taught[0]}' distills, and pretrain.distill names no teacher")
        if self.phases and not any(phase.distill.writes for phase in self.phases):
            raise ValueError(
                "no phase learns what to write: give `hard` or `logits` a weight in the last one"
            )
        return self

    @field_validator("max_shift")
    @classmethod
    def _shifts_fit(cls, shifts: dict[str, int]) -> dict[str, int]:
        if any(not 0 <= most <= MAX_SHIFT for most in shifts.values()):
            raise ValueError(f"pictures are moved by 0 to {MAX_SHIFT} pixels")
        return shifts

    @model_validator(mode="after")
    def _steps_fit_processes(self) -> PretrainConfig:
        if self.packs_per_step % self.processes:
            raise ValueError(
                f"packs_per_step {self.packs_per_step} is no multiple of processes {self.processes}: "
                "it is the batch of all of them together"
            )
        return self

    @model_validator(mode="after")
    def _best_is_measured(self) -> PretrainConfig:
        if self.select == "best" and not self.validate_every:
            raise ValueError("select = 'best' wants validate_every: the best is known by its validation loss")
        return self
