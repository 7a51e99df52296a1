"""Grids of coloured cells, as ARC has them: their colours, and the ways to turn and mirror them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TypeAlias

Grid: TypeAlias = tuple[tuple[int, ...], ...]
"""Rows of colours, 0 to 9."""

PALETTE = {
    "black": (20, 20, 20),
    "blue": (0, 116, 217),
    "red": (240, 60, 50),
    "green": (50, 190, 70),
    "yellow": (255, 220, 0),
    "grey": (185, 185, 185),
    "pink": (240, 20, 190),
    "orange": (255, 135, 30),
    "light blue": (130, 215, 240),
    "brown": (130, 30, 45),
}
"""ARC's usual colours, in the order of its numbers."""


def _rotate_right(grid: Grid) -> Grid:
    return tuple(zip(*grid[::-1], strict=True))


def _rotate_left(grid: Grid) -> Grid:
    return tuple(zip(*grid, strict=True))[::-1]


def _mirror_across(grid: Grid) -> Grid:
    return tuple(row[::-1] for row in grid)


def _mirror_down(grid: Grid) -> Grid:
    return grid[::-1]


def _turn(grid: Grid) -> Grid:
    return _mirror_down(_mirror_across(grid))


CHANGES: Mapping[str, Callable[[Grid], Grid]] = {
    "rotated left": _rotate_left,
    "rotated right": _rotate_right,
    "turned upside down": _turn,
    "mirrored left to right": _mirror_across,
    "mirrored top to bottom": _mirror_down,
}
"""What can be done to a grid → how."""


def size_of(grid: Grid) -> tuple[int, int]:
    """Rows and columns."""
    return len(grid), len(grid[0])


def colours_of(grid: Grid) -> Counter[str]:
    """Name of each colour → its cells, the most frequent first."""
    names = list(PALETTE)
    counted = Counter(names[value] for row in grid for value in row)
    return Counter(dict(sorted(counted.items(), key=lambda item: (-item[1], item[0]))))


def changes_between(left: Grid, right: Grid) -> list[str]:
    """Every single change that makes the right grid of the left one."""
    return [name for name, change in CHANGES.items() if change(left) == right]
