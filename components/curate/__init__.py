"""Curation: raw sources → gated, deduplicated, versioned WebDataset shards.

python -m components.curate configs/cpu.toml
"""

from components.curate.preflight import preflight
from components.curate.stage import curate

__all__ = ["curate", "preflight"]
