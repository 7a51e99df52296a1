"""What a person wants to see in the Prefect UI: tables, links and a verdict, as Prefect artifacts."""

from __future__ import annotations

import base64
import json
import re
import tomllib
from pathlib import Path
from typing import Any

from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)
from prefect.events import emit_event

from components.artifacts import Artifact, Dataset, Mixture, Release, Scores, Values
from components.progress import console
from components.report.data import pages
from components.report.mixture import pairs, pictures
from components.report.value import forest


def event(happened: dict[str, Any]) -> None:
    """Hand an event of a stage on to Prefect, where automations may act on it (`opsin.regression`, …)."""
    facts = {key: value for key, value in happened.items() if key not in ("event", "time")}
    emit_event(
        event=f"opsin.{happened['event']}",
        resource={"prefect.resource.id": f"opsin.stage.{happened['stage']}"},
        payload=facts,
    )
    told = ", ".join(f"{key} {value}" for key, value in facts.items() if key != "stage")
    console.print(f"[yellow]{happened['stage']}: {happened['event']}[/] {told}")


def stage(name: str, artifact: Artifact) -> None:
    """Publish what `artifact` has for people."""
    key = re.sub(r"[^a-z0-9]+", "-", name.lower())
    if isinstance(artifact, Dataset):
        rows = [
            {"gate": gate.name, "passed": gate.passed, "observed": gate.observed, "required": gate.required}
            for gate in artifact.load_record().gates
        ]
        create_table_artifact(
            rows, key=key, description=f"{artifact.num_samples} samples, version {artifact.version}"
        )
        for title, page in pages(Path(artifact.record).parent / "logs").items():
            if page.is_file():
                part = re.sub(r"[^a-z0-9]+", "-", f"{page.parent.name}/{page.name}")
                create_link_artifact(page.resolve().as_uri(), key=f"{key}-{part}", link_text=title)
    elif isinstance(artifact, Scores):
        scores = json.loads((artifact.path / "scores.json").read_text())
        rows = [
            {
                "group": group,
                "score": round(row["value"], 4),
                "low": round(row["low"], 4),
                "high": round(row["high"], 4),
            }
            for group, row in scores.items()
        ]
        create_table_artifact(rows, key=key, description=f"held-out scores after {artifact.label}")
    elif isinstance(artifact, Mixture) and name in ("ablate", "confirm"):
        create_table_artifact(
            [{"category": key, "weight": round(weight, 4)} for key, weight in artifact.weights.items()],
            key=key,
            description=_verdict(artifact),
        )
        _pictures(name, artifact)
    elif isinstance(artifact, Values):
        told = json.loads((artifact.path / "value.json").read_text())
        create_table_artifact(
            [{"part": part, **_short(row)} for part, row in told["units"].items()],
            key=key,
            description=f"gain of having it, {told['pairs']} pairs of runs",
        )
        _picture(key, forest(told))
    elif isinstance(artifact, Release):
        lines = [f"# {artifact.verdict}", f"model `{artifact.model}` version `{artifact.version}`"]
        lines += [
            f"- {gate.name}: {gate.observed} (required {gate.required})"
            for gate in artifact.load_record().gates
        ]
        create_markdown_artifact("\n".join(lines), key=key, description="canary verdict")


def _verdict(mixture: Mixture) -> str:
    """Why this mixture: the recipe's last word."""
    recipe = tomllib.loads((mixture.path / "mixture.toml").read_text())
    return str((recipe.get("confirmation") or recipe["provenance"])["verdict"])


def _short(row: dict[str, Any]) -> dict[str, Any]:
    shown = {name: round(row[name], 4) for name in ("value", "low", "high")}
    return {**shown, "samples": row["samples"], "verdict": row["verdict"]}


def _pictures(name: str, mixture: Mixture) -> None:
    """Plots of the search; of the confirmation, its pairs."""
    if name == "ablate":
        study = json.loads((mixture.path / "ablation.json").read_text())
        for which, plot in pictures(study, None).items():
            _picture(f"mixture-{which}", plot)
    else:
        _picture("mixture-pairs", pairs(json.loads((mixture.path / "confirmation.json").read_text())))


def _picture(key: str, plot: str) -> None:
    content = base64.b64encode(plot.encode()).decode()
    create_image_artifact(f"data:image/svg+xml;base64,{content}", key=key)


def report(path: Path) -> None:
    """Link the run's report."""
    create_link_artifact(path.resolve().as_uri(), key="report", link_text="report.html")
