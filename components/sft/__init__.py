"""Supervised fine-tuning: TRL's SFTTrainer with LoRA on packed data, adapters merged at the end."""

from components.sft.training import sft

__all__ = ["sft"]
