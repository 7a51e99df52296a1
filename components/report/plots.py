"""Plots as inline SVG: no script, no external font, the same bytes for the same numbers."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

INK, MUTED, GRID, ACCENT = "#1d2733", "#66727f", "#e3e7eb", "#1f5fa8"
PALETTE = ("#1f5fa8", "#d1601f", "#2a8a57", "#8a4fa3", "#b8891b", "#3f9fb5", "#b3324b", "#6b7280")
STYLE: Final[Any] = {
    "svg.fonttype": "none",  # text stays text: searchable, small
    "svg.hashsalt": "opsin",  # ids by content: the same plot gives the same bytes
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": "#b9c1c9",
    "axes.labelcolor": MUTED,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
}
PANEL_INCHES = (5.0, 2.9)
MANY = 4
"""More lines than these have their legend beside the axes, not over them."""


@dataclass(frozen=True)
class Series:
    """A named line: y over x, optionally with an interval (low, high) per point."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclass(frozen=True)
class Panel:
    """One pair of axes with lines."""

    title: str
    series: Sequence[Series]
    x_label: str = ""
    unit: str = ""
    steps: bool = False
    """Draw as a staircase with markers (values that hold until the next step)."""
    from_zero: bool = False
    """Start the vertical axis at zero: shares, rates and counts, where a wiggle should look like one."""


@dataclass(frozen=True)
class Dot:
    """A value with its interval, and the baseline beside it."""

    label: str
    value: float
    low: float
    high: float
    baseline: tuple[float, float, float] | None = None
    """Value, low, high of the baseline."""


def lines(panels: Sequence[Panel], *, columns: int = 2) -> Markup:
    """Line plots side by side, one colour per series name over all panels."""
    colour_of = colours(series.name for panel in panels for series in panel.series)
    with matplotlib.rc_context(STYLE):
        figure, axes = grid(len(panels), columns)
        for panel, ax in zip(panels, axes, strict=True):
            ax.set_title(panel.title)
            ax.set_xlabel(panel.x_label)
            ax.set_ylabel(panel.unit)
            for series in panel.series:
                _line(ax, panel, series, colour_of[series.name])
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
            if panel.from_zero:
                ax.set_ylim(0, 1.15 * max((max(series.y) for series in panel.series), default=0) or 1)
            if len(panel.series) > MANY:
                ax.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=7)
            elif len(panel.series) > 1:
                ax.legend()
        return svg(figure)


def dots(panels: Mapping[str, Sequence[Dot]], *, unit: str, baseline: str) -> Markup:
    """One panel per key: each dot's value and interval on its own row, the baseline in grey under it."""
    with matplotlib.rc_context(STYLE):
        rows = max(len(items) for items in panels.values())
        figure, axes = grid(len(panels), 2, height=0.9 + 0.42 * rows)
        for (title, items), ax in zip(panels.items(), axes, strict=True):
            ax.set_title(title)
            ax.set_xlabel(unit)
            ax.grid(axis="y", visible=False)
            for row, dot in enumerate(items):
                _interval(ax, row, dot.value, dot.low, dot.high, ACCENT, "o")
                if dot.baseline:
                    _interval(ax, row + 0.3, *dot.baseline, MUTED, "D")
            ax.set_yticks(range(len(items)), [dot.label for dot in items])
            ax.set_ylim(len(items) - 0.35, -0.5)
            ax.set_xlim(0, 1)
        handles = [
            axes[0].plot([], [], "o-", color=ACCENT, label="model")[0],
            axes[0].plot([], [], "D-", color=MUTED, markersize=4, label=baseline)[0],
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=2)
        return svg(figure)


def _line(ax: Axes, panel: Panel, series: Series, colour: str) -> None:
    dense = len(series.x) > 30
    style = "steps-mid" if panel.steps else "default"
    marker = "" if dense else "o"
    ax.plot(series.x, series.y, color=colour, label=series.name, marker=marker, markersize=4, drawstyle=style)
    if series.low:
        ax.fill_between(series.x, series.low, series.high, color=colour, alpha=0.15, linewidth=0)


def _interval(ax: Axes, row: float, value: float, low: float, high: float, colour: str, marker: str) -> None:
    ax.plot([low, high], [row, row], color=colour, linewidth=2, solid_capstyle="butt")
    ax.plot([value], [row], marker=marker, color=colour, markersize=6 if marker == "o" else 4)


def grid(panels: int, columns: int, *, height: float = PANEL_INCHES[1]) -> tuple[Figure, list[Axes]]:
    columns = min(columns, panels)
    rows = -(-panels // columns)
    size = (PANEL_INCHES[0] * columns, height * rows)
    figure = Figure(figsize=size, layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for spare in axes[panels:]:
        spare.remove()
    return figure, axes[:panels]


def colours(names: Iterable[str]) -> dict[str, str]:
    unique = dict.fromkeys(names)
    return {name: PALETTE[index % len(PALETTE)] for index, name in enumerate(unique)}


def svg(figure: Figure) -> Markup:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'<g id="[a-z]+[a-z_]*_\d+">', "<g>", text)  # figure_1, axes_1 …: once per page is allowed
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r'\1 role="img"', text, count=1)
    return Markup(text)
