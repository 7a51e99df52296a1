"""The sections behind pretraining: `[sft]`, `[align]`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from components.config.base import Frozen, StageConfig, execution_field
from components.config.distill import SftDistillConfig


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
    """Share of the samples shown without their image, so that a chat without one is nothing new."""
    distill: SftDistillConfig | None = None
    """A teacher to learn from beside the labels."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the matrix multiplications; `auto` times both on this machine and takes the faster."""
    cache_features: bool = True
    """Compute the frozen tower's features once, where pictures are shown more than once."""
    log_every: int = execution_field(10, ge=1)
    checkpoint_every_s: float = execution_field(20.0, gt=0)
    """Seconds between resumption checkpoints."""


class SamplingConfig(Frozen):
    """How the model's own answers are sampled and made into preference pairs."""

    prompts: int = Field(400, ge=8)
    """Training questions that the model answers to make preference pairs."""
    categories: tuple[str, ...] = ()
    """Categories that are asked about; empty: all. Leave out those whose answers cannot be seen."""
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
