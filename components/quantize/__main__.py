"""The command door of quantization; inputs are the record.json files of earlier stages.

    python -m components.quantize compress CONFIG.toml --checkpoint R --dataset R --mixture R
    python -m components.quantize select CONFIG.toml --unquantized R --quantized R \\
        --unquantized-scores R --quantized-scores R
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from components.artifacts import Artifact, Checkpoint, Dataset, Mixture, Record, Scores
from components.config import load
from components.errors import OpsinError
from components.quantize import quantize, select

INPUTS: dict[str, dict[str, type[Artifact]]] = {
    "compress": {"checkpoint": Checkpoint, "dataset": Dataset, "mixture": Mixture},
    "select": {
        "unquantized": Checkpoint,
        "quantized": Checkpoint,
        "unquantized_scores": Scores,
        "quantized_scores": Scores,
    },
}
STAGES: dict[str, Callable[..., Checkpoint]] = {"compress": quantize, "select": select}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for command, inputs in INPUTS.items():
        sub = commands.add_parser(command)
        sub.add_argument("config", type=Path, help="TOML config")
        sub.add_argument("--set", action="append", default=[], metavar="section.key=value")
        for name in inputs:
            sub.add_argument(f"--{name.replace('_', '-')}", type=Path, required=True, metavar="RECORD")
    asked = parser.parse_args(arguments)
    try:
        given = {
            name: kind.model_validate(Record.load(getattr(asked, name)).artifact)
            for name, kind in INPUTS[asked.command].items()
        }
        artifact = STAGES[asked.command](config=load(asked.config, asked.set).quantize, **given)
    except OpsinError as error:
        sys.exit(str(error))
    print(artifact.record)


if __name__ == "__main__":
    main(sys.argv[1:])
