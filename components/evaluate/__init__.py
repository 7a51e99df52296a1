"""Checkpoint + held-out data → scores with intervals, beside a baseline that never sees the image.

python -m components.evaluate configs/cpu.toml --checkpoint RECORD --dataset RECORD --label pretrain
"""

from components.evaluate.scoring import evaluate

__all__ = ["evaluate"]
