"""The command door: `python -m components.deploy CONFIG --bundle … --baseline … --dataset …` (records)."""

from __future__ import annotations

import argparse
from pathlib import Path

from components import config
from components.artifacts import Bundle, Checkpoint, Dataset, Record
from components.deploy import deploy
from components.deploy.arms import open_registry
from components.errors import OpsinError
from components.tracking.registry import incumbent


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m components.deploy", description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--bundle", type=Path, required=True, help="record.json of the candidate")
    parser.add_argument(
        "--baseline", type=Path, required=True, help="record.json of the checkpoint that stands in at first"
    )
    parser.add_argument("--dataset", type=Path, required=True, help="record.json of the dataset")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    arguments = parser.parse_args()
    try:
        _run(arguments)
    except OpsinError as error:
        raise SystemExit(str(error)) from None


def _run(arguments: argparse.Namespace) -> None:
    settings = config.load(arguments.config, arguments.set).deploy
    bundle = Bundle.model_validate(Record.load(arguments.bundle).artifact)
    release = deploy(
        config=settings,
        bundle=bundle,
        baseline=Checkpoint.model_validate(Record.load(arguments.baseline).artifact),
        dataset=Dataset.model_validate(Record.load(arguments.dataset).artifact),
        champion=incumbent(open_registry(settings).uri, settings.model_name, bundle.digest),
    )
    print(release.model_dump_json(indent=1))


if __name__ == "__main__":
    main()
