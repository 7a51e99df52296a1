"""The curation stage: plan → screen texts → render → filter → shards + manifest → gates.

    dataset = curate(config=preflight(config.curate))

Interrupted, it continues from the last finished chunk and shard; the bytes come out the same.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from dataclasses import asdict

import pandas as pd

from components.artifacts import Dataset, write_atomic
from components.config import CurateConfig
from components.curate.contact import draw_contact_sheet
from components.curate.filters import Funnel, Rejected, run_funnel
from components.curate.render import Plan, Task, plan_sources, render_all, undrawn
from components.curate.shards import read_stored, write_dataset, write_quarantine
from components.curate.text import find_text_problems
from components.gates.data import Requirements, check_dataset
from components.stage import Fields, Run, stage
from components.storage import dataset_version


@stage("curate", Dataset)
def curate(run: Run, *, config: CurateConfig) -> Fields:
    """Raw sources → gated, deduplicated, decontaminated, deterministic shards with a manifest.

    What was rejected lies in `logs/quarantine/` and `logs/quarantine.parquet` with reason codes, the
    count at every filter in `logs/funnel.json`, a contact sheet in `logs/contact.png`.

    Raises:
        ConfigError: a source does not exist.
        SourceError: a source could not be fetched or read.
        GateFailed: the data does not satisfy its gates.
    """
    plan = plan_sources(config)
    run.sources[:] = plan.sources
    begin = time.monotonic()
    tasks, screened = _screen(plan, config)
    screening_s = time.monotonic() - begin
    rendered = render_all(tasks, run.scratch / "rendered", workers=config.execution.workers)
    funnel = run_funnel(
        rendered.candidates,
        phash_distance=config.phash_distance,
        seconds=rendered.seconds,
        screened=screened,
        screening_s=screening_s,
    )
    write_quarantine(funnel.rejected, run.logs, run.scratch)
    draw_contact_sheet(funnel.kept, funnel.rejected, run.logs / "contact.png")
    _report(run, funnel)
    manifest = write_dataset(
        funnel.kept, run.output, run.scratch, samples_per_shard=config.samples_per_shard, seed=config.seed
    )
    results = check_dataset(
        pd.read_parquet(manifest),
        stored_sha256=read_stored(run.output),
        expected_sha256={each.key: hashlib.sha256(each.png).hexdigest() for each in funnel.kept},
        num_rejected=len(funnel.rejected),
        requirements=Requirements(
            categories=tuple(sorted({source.category for source in config.sources})),
            image_size=config.image_size,
            phash_distance=config.phash_distance,
            min_samples_per_category=config.min_samples_per_category,
            max_rejected_share=config.max_rejected_share,
        ),
    )
    for result in sorted(results, key=lambda result: not result.passed):  # keep all that passed, then stop
        run.gate(result)
    version = dataset_version(run.output)
    run.dataset_versions[config.name] = version
    return {"name": config.name, "version": version, "num_samples": len(funnel.kept)}


def _screen(plan: Plan, config: CurateConfig) -> tuple[list[Task], list[Rejected]]:
    """The tasks worth drawing, and those whose text alone rejects them."""
    filters = {source.locator: source.text for source in config.sources}
    samples = [(str(task.fetched.locator), task.draft.turns) for task in plan.tasks]
    problems = find_text_problems(samples, filters)
    kept = [task for place, task in enumerate(plan.tasks) if place not in problems]
    return kept, [Rejected(undrawn(plan.tasks[place]), reason) for place, reason in sorted(problems.items())]


def _report(run: Run, funnel: Funnel) -> None:
    """Counts for the record and the report."""
    kept, rejected = len(funnel.kept), len(funnel.rejected)
    run.metrics |= {
        "samples": kept,
        "rejected": rejected,
        "rejected_share": rejected / (kept + rejected) if kept + rejected else 1.0,
    }
    for step in funnel.steps:
        run.metrics[f"funnel/{step.name}/in"] = step.num_in
        run.metrics[f"funnel/{step.name}/out"] = step.num_out
        run.metrics[f"funnel/{step.name}/seconds"] = step.seconds
    counts = Counter((each.category, each.split, each.group) for each in funnel.kept)
    report = {
        "filters": [asdict(step) for step in funnel.steps],
        "reasons": dict(sorted(Counter(each.reason.code for each in funnel.rejected).items())),
        "kept": [
            {"category": category, "split": split, "group": group, "samples": count}
            for (category, split, group), count in sorted(counts.items())
        ],
    }
    write_atomic(run.logs / "funnel.json", json.dumps(report, indent=1))
