"""What a person wants to see in the Prefect UI: tables, links and a verdict, as Prefect artifacts."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.events import emit_event

from components.artifacts import Artifact, Dataset, Mixture, Release, Scores
from components.progress import console
from components.report.data import pages


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
    key = name.replace("_", "-")
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


def report(path: Path) -> None:
    """Link the run's report."""
    create_link_artifact(path.resolve().as_uri(), key="report", link_text="report.html")
