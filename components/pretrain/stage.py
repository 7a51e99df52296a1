"""The stage: prepare, check, train, check, save."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from transformers import PreTrainedModel

from components.artifacts import VALIDATION_ANSWERS, Checkpoint, Dataset, Mixture, digest_file, write_atomic
from components.config import PretrainConfig
from components.distillation import NO_ANSWERS, Answers, pin_teacher, teacher_answers
from components.engine import Precision, Speed, attention, choose_precision, measure_speed
from components.engine.loss import PackedLoss
from components.errors import ConfigError
from components.gates.result import GateResult
from components.loader import Batch, Collator, Encoded, Feed, Plan, Sample, read_samples
from components.loader.features import Features, compute_features
from components.loader.packing import POOL, compare_strategies
from components.pretrain.checkpoints import Checkpoints, Tensors, restore_model
from components.pretrain.checks import answers_end, generation_stops, loss_sane, packing_equivalence
from components.pretrain.data import Corpus, packing_of, plan_for, prepare
from components.pretrain.distill import SECTION, prepare_lesson
from components.pretrain.launch import launch
from components.pretrain.measure import HeldOut, Measured, choose
from components.pretrain.meter import Progress
from components.pretrain.train import Machine, Trainer
from components.pretrain.watch import Watch
from components.stage import Fields, Run, stage
from components.vlm import build_model, contract, contract_hash, local_sources, pin_sources, save
from components.vlm.card import model_card
from components.vlm.features import take_features
from components.vlm.varlen import register_varlen

EQUIVALENCE_SAMPLES_PER_CATEGORY = 2
COMPARED_ITEMS = 20_000
"""Items of the plan that all packing strategies are compared on."""


def pin(config: PretrainConfig) -> PretrainConfig:
    """With the digests of the model's sources and of the teacher."""
    downloads, distill = config.execution.downloads, config.distill
    pinned = {
        "model": pin_sources(config.model, downloads),
        "distill": pin_teacher(distill, downloads, SECTION) if distill else None,
    }
    return config.model_copy(update=pinned)


@stage("pretrain", Checkpoint, pin=pin)
def pretrain(run: Run, *, config: PretrainConfig, dataset: Dataset, mixture: Mixture) -> Fields:
    """Train a vision-language model on `dataset`, drawn by `mixture`.

    Raises:
        GateFailed: packing changes the loss, the loss is not sane, a watched group regressed (where that
            stops the run), or generation does not stop.
        ConfigError: the mixture weights a category that the dataset does not have, a turn does not fit, or a
            teacher is not fit for the student.
    """
    if config.processes > 1:
        return launch(run, config, dataset, mixture)
    return train(run, config, dataset, mixture)


def train(run: Run, config: PretrainConfig, dataset: Dataset, mixture: Mixture) -> Fields:
    """One process's share of the work; of one process, all of it."""
    torch.set_num_threads(config.execution.threads)
    accelerator = Accelerator(cpu=config.execution.device == "cpu")
    answers = _answers(run, config, dataset, mixture)
    corpus = prepare(config, dataset, answers)
    agreed = contract_hash(contract(corpus.family.processor))
    plan, path = plan_for(config, corpus, mixture.weights)
    _assert_tower(config, dataset, corpus)
    _assert_measurable(config, corpus, mixture)
    _assert_learnable(config, corpus, mixture)
    _tell_what_is_lost(run, config, corpus)
    model = _model(config, corpus).to(accelerator.device)
    lesson = prepare_lesson(config, model, corpus.family, pictures=bool(len(corpus.train.grid_I2)))
    run.gate(_equivalence(config, corpus, model))
    collates = _Collates(config, corpus, model)
    feed = Feed(
        plan,
        collates.train,
        rank=accelerator.process_index,
        ranks=accelerator.num_processes,
        packs_per_forward=config.packs_per_forward,
    )
    machine = _machine(run, config, accelerator, model, feed)
    if accelerator.is_main_process:
        _describe_plan(run, config, plan, path)
        _describe_model(run, config, corpus, model)
    if lesson is not None:
        lesson.teacher.model.set_attn_implementation(machine.precision.attention)
    trainer = Trainer(
        run, config, model, corpus.family, feed, corpus.train.categories, machine, lesson=lesson
    )
    watch = _watch(run, config, corpus, collates, trainer)
    trainer.after_step = watch.after_step
    with attention(model, machine.precision.attention):
        progress = trainer.fit()
    run.gate(loss_sane(progress, from_scratch=config.model.trains_tokenizer))
    weights = _chosen_weights(config, watch, trainer)
    accelerator.end_training()
    if not accelerator.is_main_process:
        return {}
    if machine.sharded:
        model = _model(config, corpus)
    restore_model(model, weights, sharded=False)
    mixtures = [phase.mixture or mixture.weights for phase in config.phases]
    weighted = {name for each in mixtures for name, weight in each.items() if weight > 0}
    prompts = read_samples(dataset, "validation", categories=weighted)
    _close(run, config, corpus, model, watch, progress, machine.speed, prompts)
    return {"contract": agreed}


def _assert_measurable(config: PretrainConfig, corpus: Corpus, mixture: Mixture) -> None:
    """
    Raises:
        ConfigError: nothing of a split that is measured fits into a pack, or no category that is trained on
            has validation samples. Better now than behind the last step.
    """
    measured = {"validation": corpus.validation} | ({"test": corpus.held_out} if config.watch.every else {})
    for split, encoded in measured.items():
        if not len(packing_of(config).items(encoded, image=True).sample_K):
            raise ConfigError(
                f"no sample of the {split} split fits into a pack",
                where="pretrain.pack_tokens",
                fix="raise pack_tokens or pack_images",
            )
    trained = {name for phase in config.phases for name in phase.mixture or mixture.weights}
    if not trained & set(corpus.validation.categories):
        raise ConfigError(
            f"the validation split has no sample of {', '.join(sorted(trained))}",
            where=f"its categories: {', '.join(corpus.validation.categories)}",
            fix="let a source of theirs give a validation split",
        )


def _assert_learnable(config: PretrainConfig, corpus: Corpus, mixture: Mixture) -> None:
    """
    Raises:
        ConfigError: a phase trains only what looks at pictures, and its data has none.
    """
    seen_S = np.diff(corpus.train.image_S) > 0
    seen = {corpus.train.categories[number] for number in np.unique(corpus.train.category_S[seen_S])}
    for phase in config.phases:
        weights = phase.mixture or mixture.weights
        if "language" not in phase.trainable and not any(weights.get(name, 0) > 0 for name in seen):
            raise ConfigError(
                f"phase '{phase.name}' trains {' and '.join(phase.trainable)}, and its data has no picture",
                where=f"pretrain.phases, categories {', '.join(sorted(weights))}",
                fix="add 'language' to its `trainable`, or give it a mixture with pictures",
            )


def _tell_what_is_lost(run: Run, config: PretrainConfig, corpus: Corpus) -> None:
    """Count the training samples that lose turns because those do not fit."""
    dropped = packing_of(config).items(corpus.train, image=True).dropped
    run.metrics["samples_with_dropped_turns"] = float(len(dropped))
    if dropped:
        run.event("turns_dropped", samples=len(dropped), first=dropped[0], pack_tokens=config.pack_tokens)


def _assert_tower(config: PretrainConfig, dataset: Dataset, corpus: Corpus) -> None:
    """
    Raises:
        ConfigError: the dataset was delivered as embeddings, and not of the tower that is trained with, or a
            phase would run the tower.
    """
    if corpus.train.features is None:
        return
    delivered = str(dataset.load_record().config.get("tower", ""))
    running = [phase.name for phase in config.phases if "vision" in phase.trainable or phase.distill.taught]
    if delivered != config.model.vision or running:
        own = f"phase '{running[0]}' runs it" if running else f"the model's is '{config.model.vision}'"
        raise ConfigError(
            f"the dataset holds features of the tower '{delivered}' in the pictures' stead; {own}",
            where="pretrain.model.vision, curate.tower",
            fix="train with that tower frozen, or deliver pictures (curate.delivery)",
        )


def _model(config: PretrainConfig, corpus: Corpus) -> PreTrainedModel:
    """The model before training: the same in every process."""
    torch.manual_seed(config.seed)
    local = local_sources(config.model, config.execution.downloads)
    return build_model(local, corpus.family.tokenizer)


def _answers(run: Run, config: PretrainConfig, dataset: Dataset, mixture: Mixture) -> Answers:
    """The teacher's answers to the questions that are trained on, where its text is learned."""
    if config.distill is None or config.distill.text is None:
        return NO_ANSWERS
    weights = [phase.mixture or mixture.weights for phase in config.phases]
    answers = teacher_answers(
        config.distill,
        dataset,
        categories={name for each in weights for name, weight in each.items() if weight > 0},
        execution=config.execution,
        seed=config.seed,
        keep=run.scratch / "answers.json",
        where=SECTION,
    )
    run.metrics |= answers.metrics
    return answers


def _chosen_weights(config: PretrainConfig, watch: Watch, trainer: Trainer) -> Tensors:
    """The last weights, or the best."""
    best = Checkpoints(watch.best, keep=1).latest()
    if config.select == "best" and best is not None:
        watch.run.metrics["best_step"] = float(watch.best_step)
        return best.model
    return trainer.weights()


def _close(
    run: Run,
    config: PretrainConfig,
    corpus: Corpus,
    model: PreTrainedModel,
    watch: Watch,
    progress: Progress,
    speed: Speed,
    prompts: list[Sample],
) -> None:
    """Measure, check and write the trained model."""
    model.eval()
    measured = watch.validation.measure(PackedLoss(model, corpus.family), model.device)
    required = config.min_end_token_rate
    if corpus.validation.features is not None:
        stops = answers_end(measured.frame, required=required)
    else:
        stops = generation_stops(model, corpus.family.processor, prompts, required=required)
    run.gate(stops)
    run.metrics |= _metrics(model, progress, speed, measured) | {
        "end_token_rate": float(stops.evidence["end_token_rate"] or 0)
    }
    measured.frame.to_parquet(run.logs / VALIDATION_ANSWERS, index=False)
    save(model, corpus.family.processor, run.output)


class _Collates:
    """Collators of the three splits: with features in the pictures' stead where the tower stays frozen."""

    def __init__(self, config: PretrainConfig, corpus: Corpus, model: PreTrainedModel) -> None:
        self._config, self._corpus, self._model = config, corpus, model
        # A teacher looks at the pictures themselves.
        frozen = config.cache_features and not any(config.max_shift.values())
        frozen &= not any("vision" in phase.trainable or phase.distill.taught for phase in config.phases)
        self._folder = corpus.directory / "features" / _digest_tower(corpus, model) if frozen else None
        self.train = self._collate("train", corpus.train, always_image=True)
        self.validation = self._collate("validation", corpus.validation)
        self.held_out = self._collate("held_out", corpus.held_out) if config.watch.every else None

    def _collate(self, split: str, encoded: Encoded, *, always_image: bool = False) -> Collator:
        features: Features | None = encoded.features
        if features is None and self._folder is not None:
            path = self._folder / f"{split}.npy"
            features = compute_features(encoded, self._corpus.family, self._model, path)
        return Collator(
            encoded,
            self._corpus.family,
            isolation=self._config.isolation,
            features=features,
            always_image=always_image,
        )


def _digest_tower(corpus: Corpus, model: PreTrainedModel) -> str:
    """SHA-256 over the weights of the vision tower."""
    whole = hashlib.sha256()
    for module in corpus.family.parts(model)["vision"]:
        for name, tensor in sorted(module.state_dict().items()):
            whole.update(
                name.encode() + tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
            )
    return whole.hexdigest()[:16]


def _equivalence(config: PretrainConfig, corpus: Corpus, model: PreTrainedModel) -> GateResult:
    chosen = choose(corpus.train, EQUIVALENCE_SAMPLES_PER_CATEGORY, config.seed)
    delivered = corpus.train.features
    if delivered is not None:
        take_features(model)
    collate = Collator(corpus.train, corpus.family, isolation=config.isolation, features=delivered)
    with attention(model, register_varlen() if config.isolation == "varlen" else "sdpa"):
        return packing_equivalence(model, collate, chosen, packing_of(config))


def _choice(
    run: Run, config: PretrainConfig, module: PackedLoss, batch: Batch
) -> tuple[Precision, dict[str, float]]:
    keep = run.scratch / "precision.json"
    return choose_precision(module, batch, config.precision, config.execution, keep, config.isolation)


def _machine(
    run: Run, config: PretrainConfig, accelerator: Accelerator, model: PreTrainedModel, feed: Feed
) -> Machine:
    """Measure this machine with this model, or go on as an earlier run like this one did."""
    module = PackedLoss(model, feed.collate.family)
    model.requires_grad_(True)
    batch = feed[0].batches[0].to(accelerator.device)
    chosen: list[Any] = [None]
    if accelerator.is_main_process:
        chosen = [_choice(run, config, module, batch)]
    # All processes compute alike: as the first one found it.
    precision, seconds = broadcast_object_list(chosen)[0]
    with attention(model, precision.attention):
        speed = measure_speed(module, batch, precision)
    run.metrics |= {f"forward_backward_s/{name}": spent for name, spent in seconds.items()}
    run.metrics |= {"bf16": float(precision.name == "bf16"), "floor_gflops": speed.floor_flops / 1e9}
    return Machine(accelerator, precision, speed)


def _describe_plan(run: Run, config: PretrainConfig, plan: Plan, path: Path) -> None:
    """Keep the plan with the run, and compare all strategies on its own data."""
    kept = run.logs / "packplan.parquet"
    kept.unlink(missing_ok=True)
    try:
        os.link(path, kept)
    except OSError:
        shutil.copyfile(path, kept)
    reports = compare_strategies(
        plan.rows["tokens"][:COMPARED_ITEMS],
        plan.rows["images"][:COMPARED_ITEMS],
        pack_tokens=config.pack_tokens,
        pack_images=config.pack_images,
        pool=POOL,
    )
    table = {"packplan_sha256": digest_file(path), "strategies": [asdict(report) for report in reports]}
    write_atomic(run.logs / "packing.json", json.dumps(table, indent=1))


def _describe_model(run: Run, config: PretrainConfig, corpus: Corpus, model: PreTrainedModel) -> None:
    """What the model is, for the report."""
    trained = {part for phase in config.phases for part in phase.trainable}
    side = max(config.model.image_size, config.model.longest_edge)
    card = model_card(model, corpus.family, trained, picture=(side, side))
    run.metrics["image_tokens"] = float(card.image_tokens)
    write_atomic(run.logs / "model.json", json.dumps(card.rows()))


def _watch(run: Run, config: PretrainConfig, corpus: Corpus, collates: _Collates, trainer: Trainer) -> Watch:
    how = packing_of(config)
    validation = HeldOut(
        collates.validation, choose(corpus.validation, config.validation_samples, config.seed), how
    )
    groups = None
    if collates.held_out is not None:
        chosen = choose(corpus.held_out, config.watch.samples_per_group, config.seed)
        groups = HeldOut(collates.held_out, chosen, how)
    return Watch(
        run,
        config,
        trainer.bare,
        trainer.accelerator.device,
        validation,
        groups,
        trainer.weights,
        trainer.total,
        main=trainer.accelerator.is_main_process,
    )


def _metrics(
    model: PreTrainedModel,
    progress: Progress,
    speed: Speed,
    measured: Measured,
) -> dict[str, float]:
    losses = measured.losses()
    return {
        "parameters": float(sum(parameter.numel() for parameter in model.parameters())),
        "steps": float(progress.step),
        "tokens": float(progress.tokens),
        "samples": float(progress.samples),
        "tokens_per_s": progress.tokens / max(progress.seconds, 1e-9),
        "padding": progress.padding,
        "utilization": speed.utilization(progress.slots, progress.seconds),
        "skipped_steps": float(progress.skipped),
        "validation_loss": sum(losses.values()) / len(losses),
        "flops": speed.flops_per_slot * progress.slots,
        **{f"validation_loss/{name}": loss for name, loss in losses.items()},
        **{f"validation_error/{name}": 1 - share for name, share in measured.exact().items()},
    }
