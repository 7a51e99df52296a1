"""Alignment: preference pairs from the model's own mistakes, then TRL's DPOTrainer with the MPO loss."""

from components.align.preferences import prefer
from components.align.training import align

__all__ = ["align", "prefer"]
