"""Command door: `python -m components.align CONFIG.toml --checkpoint RECORD --dataset RECORD`.

Samples preference pairs (or takes `--preferences RECORD`), aligns, and prints the artifact as JSON.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from components.align import align, prefer
from components.artifacts import Checkpoint, Dataset, Preferences, Record
from components.config import load
from components.errors import ConfigError


def main() -> None:
    """Read the arguments, run the stages, print the checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m components.align", description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--checkpoint", type=Path, required=True, help="record.json of the SFT checkpoint")
    parser.add_argument("--dataset", type=Path, help="record.json of the dataset to sample prompts from")
    parser.add_argument("--preferences", type=Path, help="record.json of pairs made before")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    config = load(given.config, given.set).align
    checkpoint = Checkpoint.model_validate(Record.load(given.checkpoint).artifact)
    if given.preferences is not None:
        preferences = Preferences.model_validate(Record.load(given.preferences).artifact)
    elif given.dataset is not None:
        dataset = Dataset.model_validate(Record.load(given.dataset).artifact)
        preferences = prefer(config=config.sampling, checkpoint=checkpoint, dataset=dataset)
    else:
        raise ConfigError(
            "neither pairs nor a dataset to make them from", fix="give --dataset or --preferences"
        )
    aligned = align(config=config, checkpoint=checkpoint, preferences=preferences)
    print(aligned.model_dump_json(indent=1))


if __name__ == "__main__":
    main()
