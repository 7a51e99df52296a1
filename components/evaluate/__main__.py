"""The command door: `python -m components.evaluate CONFIG.toml --checkpoint RECORD --dataset RECORD`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from components import config
from components.artifacts import Checkpoint, Dataset, Record, Scores
from components.errors import OpsinError
from components.evaluate import evaluate


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m components.evaluate", description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--checkpoint", type=Path, required=True, help="record.json of the checkpoint")
    parser.add_argument("--dataset", type=Path, required=True, help="record.json of the dataset")
    parser.add_argument("--baseline", type=Path, help="record.json of the scores to compare with")
    parser.add_argument("--label", default="checkpoint", help="name of the stage that made the checkpoint")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    arguments = parser.parse_args()
    try:
        _run(arguments)
    except OpsinError as error:
        raise SystemExit(str(error)) from None


def _run(arguments: argparse.Namespace) -> None:
    baseline = Scores.model_validate(Record.load(arguments.baseline).artifact) if arguments.baseline else None
    scores = evaluate(
        config=config.load(arguments.config, arguments.set).evaluate,
        checkpoint=Checkpoint.model_validate(Record.load(arguments.checkpoint).artifact),
        dataset=Dataset.model_validate(Record.load(arguments.dataset).artifact),
        label=arguments.label,
        baseline=baseline,
    )
    print(json.dumps(json.loads((scores.path / "scores.json").read_text()), indent=1))


if __name__ == "__main__":
    main()
