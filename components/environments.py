"""The environments that stages cross as subprocesses: one interpreter per concern, only files exchanged."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from components.errors import OpsinError
from components.fingerprint import ROOT

QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
}
"""Nothing phones home, and libraries' own progress bars keep quiet; the command line sets these before
anything else is imported."""


def interpreter(name: str) -> Path:
    """The python of environment `name` (`quantize` or `serve`).

    `OPSIN_VENV_<NAME>` overrides the place (an image that has only one environment, for instance).

    Raises:
        OpsinError: the environment is not installed.
    """
    root = Path(os.environ.get(f"OPSIN_VENV_{name.upper()}", ROOT / f".venv-{name}"))
    python = root / "bin" / "python"
    if not python.exists():
        raise OpsinError(f"the {name} environment is not installed", where=str(root), fix="run `make setup`")
    return python


def run(name: str, arguments: list[str], *, log: Path) -> None:
    """Run `python ARGUMENTS` in environment `name` to its end; output goes to `log`.

    Raises:
        OpsinError: it ended with a non-zero status; the last lines of the log are in the message.
    """
    with log.open("w") as file:
        done = subprocess.run(
            [str(interpreter(name)), *arguments],
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=os.environ | QUIET,
        )
    if done.returncode:
        tail = "\n    ".join(log.read_text(errors="replace").splitlines()[-15:])
        raise OpsinError(
            f"a step in the {name} environment ended with status {done.returncode}:\n    {tail}",
            where=str(log),
            fix="read the whole log; the step runs again when the stage does",
        )
