"""Progress of anything that takes more than a few seconds: rate and end time, on a terminal or in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")
console = Console(stderr=True)
LOG_EVERY_S = 20.0


def hush() -> None:
    """Nothing of this process's progress is shown: one of many side by side, whose parent tells of all."""
    console.quiet = True


class Bar:
    """A progress bar on a terminal; a line every 20 seconds where there is none.

    Example:
        with Bar("pretrain", total=steps, unit="tok") as bar:
            bar.advance(tokens=4096, note=f"loss {loss:.3f}")
    """

    def __init__(self, title: str, *, total: int, start: int = 0, unit: str = "it") -> None:
        self.title, self.total, self.done, self.unit = title, total, start, unit
        self.units, self._begin, self._last = 0.0, time.monotonic(), time.monotonic()
        self._first = start
        self._rich: Progress | None = None

    def __enter__(self) -> Bar:
        if console.is_terminal and not console.quiet:
            self._rich = Progress(
                SpinnerColumn(),
                TextColumn("[bold]{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeElapsedColumn(),
                TextColumn("eta"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=console,
            )
            self._rich.start()
            self._task = self._rich.add_task(
                self.title, total=self.total, completed=self.done, rate="", note=""
            )
        return self

    def advance(self, steps: int = 1, *, units: float | None = None, note: str = "") -> None:
        """Count `steps` done; `units` is what the rate counts (tokens, samples), default the steps."""
        self.done += steps
        self.units += steps if units is None else units
        elapsed = max(time.monotonic() - self._begin, 1e-9)
        rate = f"{self.units / elapsed:,.0f} {self.unit}/s"
        if self._rich:
            self._rich.update(self._task, completed=self.done, rate=rate, note=note)
        elif not console.quiet and time.monotonic() - self._last > LOG_EVERY_S:
            self._last = time.monotonic()
            eta = elapsed / max(self.done - self._first, 1) * (self.total - self.done)
            print(
                f"{self.title}: {self.done}/{self.total}, {rate}, eta {eta:.0f} s {note}",
                file=sys.stderr,
                flush=True,
            )

    def __exit__(self, *exc: object) -> None:
        if self._rich:
            self._rich.stop()


def track(items: Iterable[T], title: str, *, total: int, unit: str = "it") -> Iterator[T]:
    """Iterate with a progress bar."""
    with Bar(title, total=total, unit=unit) as bar:
        for item in items:
            yield item
            bar.advance()
