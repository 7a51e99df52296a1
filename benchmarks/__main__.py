"""Run benchmarks and write `benchmarks/RESULTS.md`: `make bench`, or

    python -m benchmarks [NAME ...] [--quick]

Each script runs in a process of its own and leaves `benchmarks/results/NAME.json`; the page is made of all
that lie there. One that fails keeps its earlier result, and the others go on; the exit status then is 1.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from components.artifacts import write_atomic

HERE = Path(__file__).parent
RESULTS = HERE / "RESULTS.md"
KEPT = HERE / "results"
RUNS_ALONE = 'if __name__ == "__main__":'


def scripts() -> list[str]:
    """Names of the scripts that can be run, in alphabetical order."""
    paths = sorted(path for path in HERE.glob("*.py") if path.stem != "__main__")
    return [path.stem for path in paths if RUNS_ALONE in path.read_text()]


def run(name: str, *, short: bool) -> str:
    """Run a script and keep the JSON object that it prints last; gives what it said when it failed."""
    print(f"benchmark: {name}, since {datetime.now():%H:%M:%S}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", f"benchmarks.{name}", *(["--quick"] if short else [])]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return done.stderr.strip()[-2000:]
    result = json.loads(done.stdout.strip().splitlines()[-1]) | {"quick": short}
    KEPT.mkdir(exist_ok=True)
    write_atomic(KEPT / f"{name}.json", json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return ""


def render(results: Sequence[Mapping[str, Any]]) -> str:
    """The page: a line per claim and peer."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`; do not edit. Ratios are how many times better ours is, with a bootstrap",
        "interval of 95% where one was computed. Contenders run interleaved on the same input; the floor is",
        "the least that any of them must do. Each result in full, with versions and machine: `results/`.",
        "",
        "| benchmark | claim | ours | peer | theirs | ratio | share of the floor |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        lines += _rows(result)
    return "\n".join(lines) + "\n"


def _rows(result: Mapping[str, Any]) -> list[str]:
    name = f"[{result['name']}](results/{result['name']}.json)" + " (quick)" * bool(result.get("quick"))
    ours = _shown(result.get("ours"), str(result.get("unit", "")))
    share = f"{result['share_of_floor']:.2f}" if "share_of_floor" in result else ""
    claim, peers = result.get("claim", ""), result.get("peers") or {}
    if not peers:
        return [f"| {name} | {claim} | {ours} | | | | {share} |"]
    rows = []
    for peer, value in peers.items():
        ratio = _ratio((result.get("ratios") or {}).get(peer), (result.get("intervals") or {}).get(peer))
        rows.append(f"| {name} | {claim} | {ours} | {peer} | {_shown(value, '')} | {ratio} | {share} |")
    return rows


def _shown(value: object, unit: str) -> str:
    if not isinstance(value, int | float):
        return "see there"
    return (f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}") + f" {unit}".rstrip()


def _ratio(ratio: object, interval: object) -> str:
    if not isinstance(ratio, int | float):
        return ""
    low_high = isinstance(interval, list) and len(interval) == 2
    return f"{ratio:.2f}" + (f" [{interval[0]:.2f}, {interval[1]:.2f}]" if low_high else "")  # type: ignore[index]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(scripts())}")
    parser.add_argument("--quick", action="store_true", help="each within a minute; less certain")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(scripts()))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are: {', '.join(scripts())}")
    failed = {}
    for name in arguments.names or scripts():
        problem = run(name, short=arguments.quick)
        if problem:
            failed[name] = problem
        RESULTS.write_text(render([json.loads(path.read_text()) for path in sorted(KEPT.glob("*.json"))]))
    print(f"written: {RESULTS}", file=sys.stderr)
    sys.exit("\n".join(f"{name} did not run: {problem}" for name, problem in failed.items()))


if __name__ == "__main__":
    main()
