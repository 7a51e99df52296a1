"""An evaluation set from the sources of a config: what tells its samples, and never a picture.

    opsin data evaluation-set docvqa.toml docvqa.parquet

Then `curate.duplicates.evaluation_sets = ["docvqa.parquet"]` keeps training clean of it.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from components.config import CurateConfig
from components.curate.clones import signature_table
from components.curate.duplicates import write_evaluation_set
from components.curate.engines import open_engine
from components.curate.funnel import Funnel
from components.curate.plan import plan_sources
from components.curate.sift import decode_pictures, look_at_headers
from components.errors import SourceError


@dataclass(frozen=True)
class Written:
    """What went into an evaluation set, and why the rest did not."""

    num_samples: int
    reasons: dict[str, int]
    """Reason code → samples that could not be read."""


def make_evaluation_set(config: CurateConfig, path: Path, name: str) -> Written:
    """Look at every sample of every split once, and write the file.

    Args:
        config: Of `preflight`. Only what makes a picture unreadable rejects it: texts are taken as they are.
        path: The parquet file.
        name: Stands in the evidence of what is removed for it.

    Raises:
        SourceError: not one sample can be read.
    """
    plan = plan_sources(config)
    planned = {each.task.key: each for each in plan.samples}
    funnel = Funnel([each.candidate for each in plan.samples])
    config.execution.home.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=config.execution.home) as scratch,
        open_engine(config.execution) as engine,
    ):
        look_at_headers(funnel, engine, planned, config, Path(scratch) / "headers")
        decode_pictures(funnel, engine, planned, config, Path(scratch) / "decoded")
    reasons = Counter(each.reason.code for each in funnel.rejected)
    if not funnel.kept:
        raise SourceError(
            f"no sample of {len(planned):,} can be read: {dict(reasons)}",
            where=f"evaluation set {name}",
            fix="see what its sources hold, and curate.images",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_evaluation_set(path, name, signature_table(funnel.kept))
    return Written(len(funnel.kept), dict(reasons.most_common()))
