"""The report of a run: `report.json` for machines, `report.html` for people, self-contained.

summary = build_summary(run_id, config, outcomes, wall_s, error=None)
write_report(summary, outcomes, Path("runs") / run_id)
"""

from components.report.page import write_report
from components.report.summary import RunSummary, StageOutcome, build_summary

__all__ = ["RunSummary", "StageOutcome", "build_summary", "write_report"]
