"""The whole story, in order: from raw public data to a canaried endpoint. Read this first.

`opsin run configs/cpu.toml` runs it as one Prefect flow; `--dry-run` only says what would run.
"""

from __future__ import annotations

from prefect import flow

from components.artifacts import Release
from components.config import LifecycleConfig
from flows import ablation, data, release, show, training
from flows.session import enter, executing


def story(config: LifecycleConfig) -> Release:
    """Eight stages with evaluation between them. Each step is skipped when its fingerprint is known."""
    # ---- data: sources → gated, deduplicated, versioned shards
    enter("curate")
    dataset = data.curate(config=config.curate)
    data.publish(dataset, config.curate)

    # ---- mixture: how much of each category, learned from small proxy runs
    enter("ablate")
    mixture = ablation.search(config, dataset)

    # ---- pretrain: connector first, then everything, from scratch
    enter("pretrain")
    pretrained = training.pretrain(config=config.pretrain, dataset=dataset, mixture=mixture)
    scores = training.evaluate(config, "pretrain", pretrained, dataset, baseline=None)

    # ---- supervised fine-tuning with adapters
    enter("sft")
    tuned = training.sft(config=config.sft, checkpoint=pretrained, dataset=dataset, mixture=mixture)
    scores = training.evaluate(config, "sft", tuned, dataset, baseline=scores)

    # ---- preference alignment on the model's own mistakes
    enter("align")
    preferences = training.prefer(config=config.align.sampling, checkpoint=tuned, dataset=dataset)
    aligned = training.align(config=config.align, checkpoint=tuned, preferences=preferences)
    scores = training.evaluate(config, "align", aligned, dataset, baseline=scores)

    # ---- quantize, and fall back to the unquantized model if it lost too much
    enter("quantize")
    quantized = release.quantize(config=config.quantize, checkpoint=aligned, dataset=dataset, mixture=mixture)
    quantized_scores = training.evaluate(config, "quantize", quantized, dataset, baseline=None)
    candidate = release.select(
        config=config.quantize,
        unquantized=aligned,
        quantized=quantized,
        unquantized_scores=scores,
        quantized_scores=quantized_scores,
    )

    # ---- export: what the runtimes load, each compared with PyTorch
    enter("export")
    bundle = release.export(config=config.export, checkpoint=candidate, reference=aligned, dataset=dataset)

    # ---- deploy: canary against the champion, verdict, alias
    enter("deploy")
    return release.deploy(config, bundle=bundle, baseline=aligned, dataset=dataset)


@flow(name="lifecycle", flow_run_name="{config.name}", persist_result=False)
def lifecycle(config: LifecycleConfig, to: str | None = None) -> None:
    """Raw sources → released vision-language model. One flow run, one MLflow run, one report.

    Args:
        config: the resolved config (`configs/*.toml`).
        to: last stage to run; all of them when not given.
    """
    with executing(config, to) as session:
        story(config)
    show.report(session.directory / "report.html")
