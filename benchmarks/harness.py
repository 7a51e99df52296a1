"""How claims are measured: contenders interleaved (A B A B), a floor beside them, bootstrap intervals.

A script builds its contenders and ends with `report(compare(...))`, which prints one JSON object, last on
standard output:

    {name, claim, unit, ours, peers: {peer: value}, floor, ratios: {peer: how many times better ours is},
     intervals: {peer: [low, high]}, versions, machine, runs}
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from components.stage import hardware

PEERS = Path(".venv-peers") / "bin" / "python"
"""Interpreter of the environment that holds the peers (`make bench` builds it)."""
CONFIDENCE = 0.95
RESAMPLES = 10_000


@dataclass(frozen=True)
class Contender:
    """Something that does the work once."""

    name: str
    """With its version, for example `webdataset 1.0.2`."""
    run: Callable[[], float | None]
    """Does the work; returns its seconds where it times itself (a peer in its own process), else None."""


def compare(
    *,
    name: str,
    claim: str,
    unit: str,
    work: float,
    ours: Contender,
    peers: Sequence[Contender],
    floor: Contender | None = None,
    runs: int = 7,
    versions: Sequence[str] = (),
    notes: str = "",
) -> dict[str, Any]:
    """Time all contenders in turn, after one unmeasured round each; values are `work` per second.

    Args:
        work: Units of work that one run does (samples, bytes): the same for every contender.
        floor: The least that any contender must do (read the bytes, decode them).
        runs: Measured rounds.
        versions: Distributions of this environment whose versions are printed.
    """
    contenders = [ours, *peers, *([floor] if floor else [])]
    for contender in contenders:
        _seconds(contender)
    seconds = {contender.name: list[float]() for contender in contenders}
    for round_ in range(runs):
        for contender in contenders if round_ % 2 == 0 else reversed(contenders):
            seconds[contender.name].append(_seconds(contender))
    times = {key: np.array(values) for key, values in seconds.items()}
    value = {key: work / float(np.median(each)) for key, each in times.items()}
    against = {peer.name: _ratio(times[peer.name], times[ours.name]) for peer in peers}
    result: dict[str, Any] = {
        "name": name,
        "claim": claim,
        "unit": unit,
        "ours": value[ours.name],
        "peers": {peer.name: value[peer.name] for peer in peers},
        "floor": {floor.name: value[floor.name]} if floor else None,
        "ratios": {key: ratio[0] for key, ratio in against.items()},
        "intervals": {key: list(ratio[1:]) for key, ratio in against.items()},
        "runs": runs,
        "versions": {each: version(each) for each in versions} | {"python": platform.python_version()},
        "machine": hardware(),
    }
    if floor:
        result["share_of_floor"] = value[ours.name] / value[floor.name]
    if notes:
        result["notes"] = notes
    return result


def _seconds(contender: Contender) -> float:
    begin = time.perf_counter()
    own = contender.run()
    return time.perf_counter() - begin if own is None else own


def _ratio(theirs: npt.NDArray[np.float64], ours: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """Median over rounds of their seconds by ours, with a bootstrap interval: above 1, ours is better."""
    ratios = theirs / ours
    drawn = np.random.default_rng(0).choice(ratios, (RESAMPLES, len(ratios)))
    medians = np.median(drawn, axis=1)
    tail = (1 - CONFIDENCE) / 2
    return float(np.median(ratios)), float(np.quantile(medians, tail)), float(np.quantile(medians, 1 - tail))


def peer(script: str, *arguments: str, python: Path = PEERS) -> float:
    """Run Python code in the peers' environment; its last printed line is the seconds that it measured.

    Raises:
        SystemExit: the environment is missing or the peer failed; says what to do.
    """
    if not python.exists():
        sys.exit(f"{python} is missing: `make bench` builds it")
    done = subprocess.run([str(python), "-c", script, *arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"the peer failed:\n{done.stderr[-3000:]}")
    return float(done.stdout.strip().splitlines()[-1])


def quick(description: str) -> bool:
    """Parse the command line that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="end within a minute; less certain")
    return bool(parser.parse_args().quick)


def report(result: dict[str, Any]) -> None:
    """Print the JSON object, last on standard output."""
    print(json.dumps(result))
