"""Write the report of a finished run again, from its `report.json` and the records it names.

python -m components.report runs/latest/report.json [--output DIRECTORY]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from components.errors import ArtifactMissing, OpsinError
from components.report.page import write_report
from components.report.summary import RunSummary, StageOutcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("report", type=Path, help="report.json of a run")
    parser.add_argument("--output", type=Path, help="where to write (default: beside report.json)")
    asked = parser.parse_args()
    try:
        print(rewrite(asked.report, asked.output or asked.report.parent))
    except OpsinError as error:
        sys.exit(f"error: {error}")


def rewrite(report: Path, directory: Path) -> Path:
    """Write `report.html` and `report.json` into `directory` from an earlier `report.json`.

    Raises:
        ArtifactMissing: there is no such report.
    """
    if not report.is_file():
        raise ArtifactMissing("no such report", where=str(report), fix="name the report.json of a run")
    summary = RunSummary.model_validate_json(report.read_text())
    outcomes = [
        StageOutcome(name=name, record=Path(stage.record), cached=stage.cached, seconds=stage.seconds)
        for name, stage in summary.stages.items()
    ]
    return write_report(summary, outcomes, directory)


if __name__ == "__main__":
    main()
