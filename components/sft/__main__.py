"""Command door: `python -m components.sft CONFIG --checkpoint RECORD --dataset RECORD --mixture RECORD`."""

from __future__ import annotations

import argparse
from pathlib import Path

from components.artifacts import Checkpoint, Dataset, Mixture, Record
from components.config import load
from components.sft import sft


def main() -> None:
    """Read the arguments, run the stage, print its checkpoint as JSON."""
    parser = argparse.ArgumentParser(prog="python -m components.sft", description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--checkpoint", type=Path, required=True, help="record.json of the parent")
    parser.add_argument("--dataset", type=Path, required=True, help="record.json of the dataset")
    parser.add_argument("--mixture", type=Path, required=True, help="record.json of the mixture")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    tuned = sft(
        config=load(given.config, given.set).sft,
        checkpoint=Checkpoint.model_validate(Record.load(given.checkpoint).artifact),
        dataset=Dataset.model_validate(Record.load(given.dataset).artifact),
        mixture=Mixture.model_validate(Record.load(given.mixture).artifact),
    )
    print(tuned.model_dump_json(indent=1))


if __name__ == "__main__":
    main()
