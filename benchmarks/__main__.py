"""Run every benchmark and write `benchmarks/RESULTS.md`: `python -m benchmarks [--quick]`, or `make bench`.

Each script runs in a process of its own. One that fails is named in the results with what it said, and the
others go on; the exit status then is 1.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.harness import quick

HERE = Path(__file__).parent
RESULTS = HERE / "RESULTS.md"
RUNS_ALONE = 'if __name__ == "__main__":'


def scripts() -> list[str]:
    """Names of the scripts that can be run, in alphabetical order."""
    paths = sorted(path for path in HERE.glob("*.py") if path.stem != "__main__")
    return [path.stem for path in paths if RUNS_ALONE in path.read_text()]


def run(name: str, *, short: bool) -> dict[str, Any]:
    """The JSON object that a script prints last, or `error`."""
    print(f"benchmark: {name}, since {datetime.now():%H:%M:%S}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", f"benchmarks.{name}", *(["--quick"] if short else [])]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return {"name": name, "error": done.stderr.strip()[-2000:]}
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def render(results: list[dict[str, Any]], *, short: bool) -> str:
    """The page: a line per claim and peer, then each result in full."""
    lines = [
        "# Benchmarks",
        "",
        f"Written by `make bench`{' with --quick: less certain' if short else ''}; do not edit. Ratios are",
        "how many times better ours is, with a bootstrap interval of 95% where one was computed.",
        "Contenders run interleaved on the same input; the floor is the least that any of them must do.",
        "",
        "| benchmark | claim | ours | peer | theirs | ratio | share of the floor |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        lines += _rows(result)
    for result in results:
        body = json.dumps(result, indent=1, ensure_ascii=False)
        lines += ["", f"## {result['name']}", "", "```json", body, "```"]
    return "\n".join(lines) + "\n"


def _rows(result: Mapping[str, Any]) -> list[str]:
    name = f"[{result['name']}]({result['name']}.py)"
    if "error" in result:
        return [f"| {name} | did not run: see below | | | | | |"]
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
        return "see below"
    return (f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}") + f" {unit}".rstrip()


def _ratio(ratio: object, interval: object) -> str:
    if not isinstance(ratio, int | float):
        return ""
    low_high = isinstance(interval, list) and len(interval) == 2
    return f"{ratio:.2f}" + (f" [{interval[0]:.2f}, {interval[1]:.2f}]" if low_high else "")  # type: ignore[index]


def main() -> None:
    short = quick(__doc__ or "")
    results: list[dict[str, Any]] = []
    for name in scripts():
        results.append(run(name, short=short))
        RESULTS.write_text(render(results, short=short))  # what is done is not lost with what is not
    failed = [str(result["name"]) for result in results if "error" in result]
    print(f"written: {RESULTS}", file=sys.stderr)
    sys.exit(f"did not run: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
