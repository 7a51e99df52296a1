"""Dataset + mixture → checkpoint, from scratch, with packed sequences.

python -m components.pretrain configs/cpu.toml --dataset RECORD --mixture RECORD
"""

from __future__ import annotations

import torch
from accelerate import Accelerator

from components.artifacts import Checkpoint, Dataset, Mixture
from components.config import PretrainConfig
from components.loader import Collator, read_samples
from components.pretrain.checks import (
    choose,
    generation_stops,
    loss_sane,
    packing_equivalence,
    validation_losses,
)
from components.pretrain.data import prepare
from components.pretrain.train import Trainer
from components.stage import Fields, Run, stage
from components.vlm import build_model, contract, contract_hash, save

__all__ = ["pretrain"]

EQUIVALENCE_SAMPLES_PER_CATEGORY = 2


@stage("pretrain", Checkpoint)
def pretrain(run: Run, *, config: PretrainConfig, dataset: Dataset, mixture: Mixture) -> Fields:
    """Train a vision-language model from random weights on `dataset`, drawn by `mixture`.

    Raises:
        GateFailed: packing changes the loss, the loss is not sane, or generation does not stop.
        ConfigError: the mixture weights a category that the dataset does not have.
    """
    torch.set_num_threads(config.execution.threads)
    accelerator = Accelerator(cpu=config.execution.device == "cpu")
    corpus = prepare(config, dataset)
    agreed = contract_hash(contract(corpus.processor))
    torch.manual_seed(config.seed)
    model = build_model(config.model, corpus.processor.tokenizer)
    trainer = Trainer(run, config, corpus, model, mixture.weights, accelerator)
    chosen = choose(corpus.train, EQUIVALENCE_SAMPLES_PER_CATEGORY, config.seed)
    run.gate(packing_equivalence(model, trainer.collate, chosen))

    progress = trainer.fit()

    run.gate(loss_sane(progress))
    model.eval()
    losses = validation_losses(
        model,
        Collator(corpus.validation, corpus.processor),
        samples_per_category=config.validation_samples,
        seed=config.seed,
        pack_tokens=config.pack_tokens,
        pack_images=config.pack_images,
    )
    stops = generation_stops(
        model,
        corpus.processor,
        read_samples(dataset, "validation", categories=_weighted(mixture)),
        required=config.min_end_token_rate,
    )
    run.gate(stops)
    run.metrics |= {
        "parameters": float(sum(parameter.numel() for parameter in model.parameters())),
        "image_tokens": float(config.model.image_tokens),
        "tokens": float(progress.tokens),
        "tokens_per_s": progress.tokens / max(progress.seconds, 1e-9),
        "padding": progress.padding,
        "skipped_steps": float(progress.skipped),
        "end_token_rate": float(stops.evidence["end_token_rate"] or 0),
        "validation_loss": sum(losses.values()) / len(losses),
        **{f"validation_loss/{name}": loss for name, loss in losses.items()},
    }
    if accelerator.is_main_process:
        saved = save(model, corpus.processor, run.output)
        assert saved == agreed, "the processor changed while the model was trained"
    return {"contract": agreed}


def _weighted(mixture: Mixture) -> set[str]:
    return {name for name, weight in mixture.weights.items() if weight > 0}
