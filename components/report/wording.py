"""How numbers read on the page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final


def duration(seconds: float) -> str:
    """`0.4 s`, `38 s`, `12 min 05 s`, `2 h 03 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_left:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def count(number: float) -> str:
    """`48,123`, `3.2M`, `1.7B`."""
    for limit, suffix in ((1e9, "B"), (1e6, "M")):
        if number >= limit:
            return f"{number / limit:.2f}{suffix}"
    return f"{number:,.0f}"


def size(num_bytes: float) -> str:
    """`640 B`, `12.3 MB` (decimal units)."""
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if num_bytes >= limit:
            return f"{num_bytes / limit:.1f} {unit}"
    return f"{num_bytes:.0f} B"


def percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def points(share: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{100 * share:+.1f}"


def number(value: float) -> str:
    """Four significant digits, thousands separated."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def metric(name: str) -> str:
    """A metric of a served arm in words; others as they are named."""
    known = {"n": "requests", "ttft_s": "time to first token, s", "latency_s": "whole answer, s"}
    return known.get(name, name.replace("_", " "))


FILTERS: Final[dict[str, Callable[[Any], str]]] = {
    "duration": duration,
    "count": count,
    "size": size,
    "percent": percent,
    "points": points,
    "number": number,
    "metric": metric,
}
"""Template filters."""
