"""How balanced a dataset is: counts, entropy, and the effective number of labels, per split."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from components.artifacts import write_atomic
from components.config.diversity import OTHER, DiversityConfig
from components.curate.diversity.caps import Labelled

SPLITS = ("train", "validation", "test")
COLOURS = {"kept": "#3b6fb6", "dropped": "#d9dee5"}


def measure_balance(
    samples: Sequence[Labelled], dropped: Collection[int], config: DiversityConfig
) -> dict[str, Any]:
    """Balance of each split before and after, as JSON values.

    Args:
        dropped: Positions that go (what `apply_caps` found).
    """
    before: dict[str, Counter[str]] = defaultdict(Counter)
    after: dict[str, Counter[str]] = defaultdict(Counter)
    for place, each in enumerate(samples):
        before[each.split][each.label] += 1
        after[each.split][each.label] += place not in dropped
    return {
        split: {"before": _balance(before[split], config), "after": _balance(after[split], config)}
        for split in sorted(before, key=SPLITS.index)
    }


def _balance(counts: Counter[str], config: DiversityConfig) -> dict[str, Any]:
    """Shares are of all samples of the split; entropy in nats, over the labels that it has."""
    total = counts.total()
    shares = [count / total for count in counts.values() if count]
    entropy = -sum(share * math.log(share) for share in shares)
    other = sum(count for label, count in counts.items() if label.rpartition("/")[2] == OTHER)
    unwanted = sum(counts[label] for label in config.unwanted)
    return {
        "samples": total,
        "labels": len(shares),
        "entropy": round(entropy, 4),
        "effective_labels": round(math.exp(entropy), 2) if shares else 0.0,
        "other_share": round(other / total, 4) if total else 0.0,
        "unwanted_share": round(unwanted / total, 4) if total else 0.0,
        "counts": {label: counts[label] for label in config.labels if counts[label]},
    }


def write_balance(balance: dict[str, Any], directory: Path) -> None:
    """`balance.json`, and `balance.png`: bars of what is kept and what went, per label and split."""
    write_atomic(directory / "balance.json", json.dumps(balance, indent=1))
    draw_balance(balance, directory / "balance.png")


def draw_balance(balance: dict[str, Any], path: Path) -> None:
    """One panel for each split, labels from the commonest down."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    labels = sorted(
        {label for each in balance.values() for label in each["before"]["counts"]},
        key=lambda label: (sum(each["before"]["counts"].get(label, 0) for each in balance.values()), label),
    )
    figure = Figure(figsize=(4 * max(len(balance), 1) + 2, 0.28 * len(labels) + 1.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, max(len(balance), 1), sharey=True, squeeze=False)[0]
    for panel, (split, each) in zip(panels, balance.items(), strict=False):
        for when, name in (("before", "dropped"), ("after", "kept")):
            widths = [each[when]["counts"].get(label, 0) for label in labels]
            panel.barh(labels, widths, color=COLOURS[name], label=name)
        effective = each["after"]["effective_labels"]
        panel.set_title(
            f"{split}: {each['after']['samples']:,} samples, {effective:g} effective labels", fontsize=9
        )
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8)
    if balance:
        panels[0].legend(frameon=False, fontsize=8, loc="lower right")
    figure.savefig(path, dpi=110)
