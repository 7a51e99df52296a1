"""Command door, and what `dvc repro` calls: `python -m components.curate CONFIG.toml [key=value ...]`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from components.config import load
from components.curate import assert_no_drift, curate, preflight
from components.environments import QUIET
from components.errors import OpsinError
from components.storage import materialize


def main() -> None:
    """Curate, bring `data/<name>` in line, and print the path of the record."""
    os.environ.update(QUIET)
    parser = argparse.ArgumentParser(description="Curate the sources of a config.")
    parser.add_argument("config", type=Path)
    parser.add_argument("overrides", nargs="*", help="section.key=value")
    arguments = parser.parse_args()
    try:
        config = preflight(load(arguments.config, arguments.overrides).curate)
        dataset = curate(config=config)
        assert_no_drift(dataset, config)
        materialize(dataset, workspace=config.execution.workspace)
    except OpsinError as error:
        sys.exit(str(error))
    print(dataset.record)


if __name__ == "__main__":
    main()
