"""The command door of export; inputs are the record.json files of earlier stages.

python -m components.export CONFIG.toml --checkpoint R --reference R --dataset R
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from components.artifacts import Artifact, Checkpoint, Dataset, Record
from components.config import load
from components.errors import OpsinError
from components.export import export

INPUTS: dict[str, type[Artifact]] = {"checkpoint": Checkpoint, "reference": Checkpoint, "dataset": Dataset}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path, help="TOML config")
    parser.add_argument("--set", action="append", default=[], metavar="section.key=value")
    for name in INPUTS:
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="RECORD")
    asked = parser.parse_args(arguments)
    try:
        given = {
            name: kind.model_validate(Record.load(getattr(asked, name)).artifact)
            for name, kind in INPUTS.items()
        }
        artifact = export(config=load(asked.config, asked.set).export, **given)  # type: ignore[arg-type]
    except OpsinError as error:
        sys.exit(str(error))
    print(artifact.record)


if __name__ == "__main__":
    main(sys.argv[1:])
