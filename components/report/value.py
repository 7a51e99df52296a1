"""The section of `opsin value`: the gain of each filter and source, with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib
from markupsafe import Markup

from components.report.files import RunFiles, read_json
from components.report.plots import ACCENT, MUTED, STYLE, grid, svg


@dataclass(frozen=True)
class Row:
    """A filter or a source in the table."""

    name: str
    gain: str
    interval: str
    samples: str
    verdict: str


@dataclass(frozen=True)
class ValueSection:
    text: str
    rows: tuple[Row, ...]
    plot: Markup


def value(files: RunFiles) -> ValueSection | None:
    """What each part is worth; None where that was not asked."""
    outcome = files.finished("value")
    told = read_json(outcome.output / "value.json") if outcome else None
    if told is None:
        return None
    return ValueSection(
        text=(
            f"Gain of the objective from having it, in {told['pairs']} pairs of runs of "
            f"{told['tokens']:,} tokens with and without it, on held-out answers that both have. "
            "Each interval stands on its own."
        ),
        rows=tuple(
            Row(
                name,
                f"{row['value']:+.1%}",
                f"[{row['low']:+.1%}, {row['high']:+.1%}]",
                f"{row['samples']:+,}",
                row["verdict"],
            )
            for name, row in told["units"].items()
        ),
        plot=forest(told),
    )


def forest(told: Mapping[str, Any]) -> Markup:
    """One row a part: every pair, their mean and its interval."""
    with matplotlib.rc_context(STYLE):
        units = told["units"]
        figure, (ax,) = grid(1, 1, height=0.9 + 0.42 * len(units))
        ax.axvline(0, color=MUTED, linewidth=1)
        for place, row in enumerate(units.values()):
            reach = [[row["value"] - row["low"]], [row["high"] - row["value"]]]
            ax.plot(row["gains"], [place] * len(row["gains"]), "o", color=MUTED, markersize=3)
            ax.errorbar(row["value"], place, xerr=reach, fmt="D", color=ACCENT, capsize=4)
        ax.set_yticks(range(len(units)), list(units))
        ax.invert_yaxis()
        ax.grid(axis="y", visible=False)
        ax.xaxis.set_major_formatter("{x:+.1%}")
        ax.set_title("Gain of having it")
        return svg(figure)
