"""How far a dataset has moved from the version before it: one distance per property of the manifest.

Categories move by the total variation distance, numbers by the Kolmogorov–Smirnov statistic; both lie
between 0 (the same distribution) and 1 (nothing in common).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

CATEGORICAL = ("category", "split", "source", "licence", "kind", "label", "source_format")
NUMERICAL = ("num_turns", "num_chars", "num_words", "bytes", "source_width", "source_height", "blur")


def measure_drift(manifest: pd.DataFrame, previous: pd.DataFrame) -> pd.DataFrame:
    """Distance per property that both manifests have: columns `property`, `drift`.

    Args:
        manifest: One row per sample of the new version.
        previous: The same of the version before; it may have been written with other columns.
    """
    from scipy.stats import ks_2samp  # over a second, and every worker process of curation imports this

    rows: list[dict[str, str | float]] = []
    both = set(manifest.columns) & set(previous.columns)
    for name in (each for each in CATEGORICAL if each in both):
        rows.append({"property": name, "drift": _total_variation(manifest[name], previous[name])})
    for name in (each for each in NUMERICAL if each in both):
        new, old = manifest[name].dropna(), previous[name].dropna()
        if len(new) and len(old):
            rows.append({"property": name, "drift": float(ks_2samp(new, old, method="asymp").statistic)})
    return pd.DataFrame(rows, columns=["property", "drift"])


def _total_variation(new: pd.Series[str], old: pd.Series[str]) -> float:
    shares = [each.value_counts(normalize=True) for each in (new, old)]
    aligned = pd.concat(shares, axis=1).fillna(0.0).to_numpy(dtype=np.float64)
    return float(np.abs(aligned[:, 0] - aligned[:, 1]).sum() / 2)
