"""What every stage that trains computes with: the packed loss, and the precision that is fastest here."""

from components.engine.loss import PackedLoss
from components.engine.precision import Precision, Speed, attention, choose_precision, measure_speed

__all__ = ["PackedLoss", "Precision", "Speed", "attention", "choose_precision", "measure_speed"]
