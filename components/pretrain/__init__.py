"""Dataset + mixture → checkpoint, with packed sequences.

python -m components.pretrain configs/cpu.toml --dataset RECORD --mixture RECORD
"""

from __future__ import annotations

from components.pretrain.stage import pretrain

__all__ = ["pretrain"]
