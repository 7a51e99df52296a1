"""Write the page: every section from what the stages left, whatever the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from components.artifacts import write_atomic
from components.config import to_toml
from components.report import canary, data, mixture, overview, quality, training, value
from components.report.files import RunFiles
from components.report.summary import RunSummary, StageOutcome
from components.report.wording import FILTERS

TEMPLATE = "report.html.j2"
PLOTS = "plots"
"""Folder beside the page, with pictures that are wanted on their own (MLflow shows them)."""


def write_report(summary: RunSummary, outcomes: Sequence[StageOutcome], directory: Path) -> Path:
    """Write `report.json` and the self-contained `report.html` of a run, finished or failed.

    Args:
        summary: From `build_summary`.
        outcomes: The same that the summary was built from.
        directory: The run's directory; made where it is missing.

    Returns:
        Path of report.html.
    """
    directory.mkdir(parents=True, exist_ok=True)
    # The JSON first: should a picture be unreadable, the run still has its figures.
    write_atomic(directory / "report.json", summary.model_dump_json(indent=1))
    page, parts = directory / "report.html", sections(RunFiles.read(summary, outcomes))
    write_atomic(page, _html(parts))
    if parts["mixture"]:
        (directory / PLOTS).mkdir(exist_ok=True)
        for name, plot in parts["mixture"].plots:
            write_atomic(directory / PLOTS / f"mixture-{name}.svg", plot)
    return page


def render(files: RunFiles) -> str:
    """The page as HTML. Sections without input are left out."""
    return _html(sections(files))


def _html(parts: dict[str, Any]) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= FILTERS
    return environment.get_template(TEMPLATE).render(parts)


def sections(files: RunFiles) -> dict[str, Any]:
    """What the template is given, by name."""
    steps = overview.strip(files)
    return {
        "summary": files.summary,
        "headline": overview.headline(files),
        "stop": overview.stop(files),
        "tiles": overview.tiles(files),
        "strip": steps,
        "boxes": overview.boxes(steps),
        "data": data.data(files),
        "mixture": mixture.mixture(files),
        "value": value.value(files),
        "training": training.training(files),
        "scores": quality.scores(files),
        "samples": quality.samples(files),
        "quantization": quality.quantization(files),
        "canary": canary.canary(files),
        "gates": overview.gates(files),
        "sources": overview.sources(files),
        "lineage": overview.lineage(files),
        "config": to_toml(dict(files.summary.config)),
    }
