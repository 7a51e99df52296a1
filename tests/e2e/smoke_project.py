"""A clean copy of the project in an empty folder, with the `opsin` command run inside it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "configs/smoke.toml"


@dataclass(frozen=True)
class Project:
    """A clone of the project, its own git repository, and the `opsin` command run inside it."""

    root: Path
    downloads: Path

    def environment(self) -> dict[str, str]:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
        venvs = {f"OPSIN_VENV_{name}": str(ROOT / f".venv-{name.lower()}") for name in ("SERVE", "QUANTIZE")}
        return (
            inherited
            | venvs
            | {"PATH": f"{Path(sys.executable).parent}:{inherited['PATH']}", "COLUMNS": "200"}
        )

    def command(self, *arguments: str) -> list[str]:
        settings = ["--set", f"execution.download_cache='{self.downloads}'"]
        extra = settings if arguments[0] in ("run", "deploy") else []
        return [sys.executable, "-m", "flows.cli", *arguments, *extra]

    def opsin(self, *arguments: str, status: int = 0) -> str:
        """Run `opsin ARGUMENTS` to its end; gives what it printed."""
        done = subprocess.run(
            self.command(*arguments), cwd=self.root, env=self.environment(), capture_output=True, text=True
        )
        assert done.returncode == status, (
            f"status {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
        )
        return done.stdout + done.stderr

    def kill_during(self, when: Callable[[], bool], *arguments: str) -> None:
        """Start `opsin ARGUMENTS`; `kill -9` it as soon as `when()` holds."""
        path = self.root / "killed.log"
        with path.open("w") as log:
            process = subprocess.Popen(
                self.command(*arguments), cwd=self.root, env=self.environment(), stdout=log, stderr=log
            )
            while not when():
                assert process.poll() is None, f"ended before it was killed:\n{path.read_text()[-4000:]}"
                time.sleep(0.05)
            process.kill()
            process.wait()

    def report(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.root / "runs/latest/report.json").read_text())
        return content

    def output(self, name: str) -> Path:
        """Output directory of a step of the newest run."""
        return Path(self.report()["stages"][name]["record"]).parent / "output"


def make_project(root: Path, downloads: Path) -> Project:
    """Copy what git tracks (as it is in the working tree) and make it a repository of its own."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    for command in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "copy"],
    ):
        subprocess.run(["git", *command], cwd=root, check=True)
    return Project(root, downloads)
