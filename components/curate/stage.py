"""The curation stage: plan → funnel → shards + manifest → gates.

    dataset = curate(config=preflight(config.curate))

Interrupted, it continues from the last finished chunk and shard; the bytes come out the same.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

import pandas as pd

from components.artifacts import Dataset, write_atomic
from components.config import CurateConfig
from components.curate.clones import leaked_keys
from components.curate.contact import draw_contact_sheet
from components.curate.delivery import deliver
from components.curate.engines import Engine, open_engine
from components.curate.funnel import Funnel
from components.curate.gallery import build_gallery
from components.curate.plan import plan_sources
from components.curate.quarantine import write_quarantine
from components.curate.shards import read_stored, write_dataset
from components.curate.sift import sift
from components.gates.data import Requirements, check_dataset, check_drift
from components.gates.result import GateResult, require
from components.stage import Fields, Run, stage
from components.storage import dataset_version


@stage("curate", Dataset)
def curate(run: Run, *, config: CurateConfig) -> Fields:
    """Raw sources → gated, deduplicated, decontaminated, deterministic shards with a manifest.

    What was rejected lies in `logs/quarantine/` and `logs/quarantine.parquet` with reason codes, the
    count at every filter in `logs/funnel.json`; to be looked at: `logs/contact.png`, `logs/gallery.html`,
    and Great Expectations' Data Docs in `logs/data_docs/index.html`.

    Raises:
        ConfigError: a source does not exist.
        SourceError: a source could not be fetched or read.
        GateFailed: the data does not satisfy its gates.
    """
    plan = plan_sources(config)
    run.sources[:] = plan.sources
    tasks = {each.task.key: each.task for each in plan.samples}
    with open_engine(config.execution) as engine:
        funnel, gates = sift(engine, plan, config, run.scratch, run.logs)
        write_quarantine(engine, funnel.rejected, tasks, run.logs)
        draw_contact_sheet(funnel.kept, funnel.rejected, run.logs / "contact.png")
        _report(run, funnel, config.name)
        write_dataset(
            engine,
            deliver(engine, funnel.kept, config, run.scratch),
            run.output,
            samples_per_shard=config.samples_per_shard,
            seed=config.seed,
        )
        build_gallery(run.directory).write(run.logs / "gallery.html", config.name)
        _check(run, config, engine, funnel, gates)
    version = dataset_version(run.output)
    run.dataset_versions[config.name] = version
    return {"name": config.name, "version": version, "num_samples": len(funnel.kept)}


def _check(
    run: Run, config: CurateConfig, engine: Engine, funnel: Funnel, gates: Sequence[GateResult]
) -> None:
    """Every gate; those that passed are kept before the first that blocks stops the stage."""
    results = check_dataset(
        pd.read_parquet(run.output / "manifest.parquet"),
        stored=read_stored(engine, run.output),
        rejected=Counter(each.reason.code for each in funnel.rejected),
        leaked=leaked_keys(funnel.kept, config.duplicates),
        requirements=Requirements(
            categories=tuple(sorted({source.category for source in config.sources})),
            image_size=0 if config.delivery == "raw" else config.image_size,
            square=config.fit != "inside",
            phash_distance=max(0, config.duplicates.same_text_distance),
            min_samples_per_category=config.min_samples_per_category,
            max_rejected_share=config.max_rejected_share,
            allowed_licences=config.allowed_licences,
            max_category_share=config.max_category_share,
            max_drift=config.max_drift,
        ),
        previous=_previous(config),
        docs=run.logs / "data_docs",
    )
    for result in sorted([*results, *gates], key=lambda result: not result.passed):
        run.gate(result)


def assert_no_drift(dataset: Dataset, config: CurateConfig) -> None:
    """Hold a dataset, made now or long ago, against the version in the workspace that it would replace.

    Raises:
        GateFailed: it differs by more than `max_drift`.
    """
    previous = _previous(config) if config.max_drift < 1 else None
    if previous is None:
        return
    manifest = pd.read_parquet(dataset.path / "manifest.parquet")
    if not previous.equals(manifest):
        require(check_drift(manifest, previous, config.max_drift), where=f"data/{config.name}")


def _previous(config: CurateConfig) -> pd.DataFrame | None:
    """Manifest of the version that the workspace holds, which a new one is compared with."""
    path = config.execution.workspace / "data" / config.name / "manifest.parquet"
    return pd.read_parquet(path) if path.is_file() else None


def _report(run: Run, funnel: Funnel, name: str) -> None:
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
        "name": name,
        "filters": [asdict(step) for step in funnel.steps],
        "text_checks": funnel.text_steps,
        "notes": funnel.notes,
        "reasons": dict(sorted(Counter(each.reason.code for each in funnel.rejected).items())),
        "kept": [
            {"category": category, "split": split, "group": group, "samples": count}
            for (category, split, group), count in sorted(counts.items())
        ],
    }
    write_atomic(run.logs / "funnel.json", json.dumps(report, indent=1))
