"""Curation: raw sources → gated, deduplicated, versioned WebDataset shards.

python -m components.curate configs/cpu.toml
"""

from components.curate.preflight import preflight
from components.curate.stage import assert_no_drift, curate

__all__ = ["assert_no_drift", "curate", "preflight"]
