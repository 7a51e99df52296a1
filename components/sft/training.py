"""The `sft` stage: TRL's SFTTrainer with PEFT adapters on the loader's packed batches.

    checkpoint = sft(config=config.sft, checkpoint=checkpoint, dataset=dataset, mixture=mixture)

The language model's linear layers get adapters, the connector is trained whole. Batches come tokenized
and packed, with labels on the assistant's text only; TRL hands them to the model unchanged.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from transformers import Idefics3Processor, PreTrainedModel
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from components.adapters import adapter_config, merge_and_save
from components.artifacts import Checkpoint, Dataset, Mixture
from components.config import SftConfig
from components.distillation import NO_ANSWERS, Answers, pin_teacher, teacher_answers
from components.engine import PackedLoss, Precision, choose_precision
from components.loader import Collator, Packing, Part, encode, make_plan, read_samples
from components.sft.distill import SECTION, DistillingTrainer, prepare_teacher
from components.sft.feed import PackFeed, pack_numbers
from components.stage import Fields, Run, stage
from components.trainers import arguments, finite_loss, train
from components.vlm import load_model, load_processor
from components.vlm.families import family_of
from components.vlm.features import can_take_features

LOGGED: Final = (
    "loss", "learning_rate", "grad_norm", "mean_token_accuracy", "entropy", "objective", "distill/logits",
    "distill/connector",
)  # fmt: skip


def pin(config: SftConfig) -> SftConfig:
    """With the digest of the teacher."""
    if config.distill is None:
        return config
    pinned = pin_teacher(config.distill, config.execution.downloads, SECTION)
    return config.model_copy(update={"distill": pinned})


@stage("sft", Checkpoint, pin=pin)
def sft(run: Run, *, config: SftConfig, checkpoint: Checkpoint, dataset: Dataset, mixture: Mixture) -> Fields:
    """Fine-tune `checkpoint` on the mixture and merge the adapters.

    Raises:
        GateFailed: the loss is not finite, or the merged weights changed where they should not (or not
            where they should).
        ContractMismatch: the checkpoint's processor is not the one it was trained with.
        ConfigError: the mixture weights a category that the dataset lacks, a turn exceeds a pack, or the
            teacher is not fit for the student.
    """
    torch.set_num_threads(config.execution.threads)
    processor = load_processor(checkpoint.path)
    on_gpu = config.execution.device != "cpu" and torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    model = load_model(checkpoint.path, expected_contract=checkpoint.contract)
    model.to(device)  # type: ignore[arg-type]  # transformers types `to` as a bound method of Module
    answers = _answers(run, config, dataset, mixture)
    feed = pack_feed(config, processor, dataset, mixture, answers)
    module, batch = PackedLoss(model, feed.family), feed.batch(range(config.packs_per_step))
    keep = run.scratch / "precision.json"
    precision, _ = choose_precision(module, batch.to(device), config.precision, config.execution, keep)
    if can_take_features(model):
        may_cache = config.cache_features and config.distill is None
        feed.show_features(model, run.scratch / "features.npy", compute=may_cache)
    trainer = sft_trainer(run, config, model, processor, feed, precision)
    loss = train(
        trainer,
        run,
        config,
        metrics=lambda logs: {key: float(logs[key]) for key in LOGGED if key in logs},
        units=lambda: float(feed.num_tokens),
        unit="tokens",
    )
    run.gate(finite_loss(loss))
    run.gate(
        merge_and_save(
            trainer.model, parent=checkpoint, processor=processor, output=run.output, connector=True
        )
    )
    run.metrics |= {"loss": loss, "bf16": float(precision.name == "bf16")}
    if feed.num_tokens:
        run.metrics["padding"] = feed.num_padded / (feed.num_padded + feed.num_tokens)
    return {"contract": checkpoint.contract}


def _answers(run: Run, config: SftConfig, dataset: Dataset, mixture: Mixture) -> Answers:
    """The teacher's answers to the questions that are trained on, where its text is learned."""
    if config.distill is None or config.distill.text is None:
        return NO_ANSWERS
    answers = teacher_answers(
        config.distill,
        dataset,
        categories={name for name, weight in mixture.weights.items() if weight > 0},
        execution=config.execution,
        seed=config.seed,
        keep=run.scratch / "answers.json",
        where=SECTION,
    )
    run.metrics |= answers.metrics
    return answers


def pack_feed(
    config: SftConfig,
    processor: Idefics3Processor,
    dataset: Dataset,
    mixture: Mixture,
    answers: Answers = NO_ANSWERS,
) -> PackFeed:
    """The packed training split, drawn by the mixture's weights, with a teacher's answers or its own."""
    family = family_of(processor)
    samples = [answers.put(sample, family.specials) for sample in read_samples(dataset, "train")]
    encoded = encode(samples, family)
    how = Packing(
        pack_tokens=config.pack_tokens,
        pack_images=config.pack_images,
        packs_per_step=config.packs_per_step,
        text_only_share=config.text_only_share,
        seed=config.seed,
    )
    plan = make_plan(encoded, [Part(mixture.weights, steps=config.steps)], how)
    return PackFeed(plan, Collator(encoded, family, features=encoded.features))


def sft_trainer(
    run: Run,
    config: SftConfig,
    model: PreTrainedModel,
    processor: Idefics3Processor,
    feed: PackFeed,
    precision: Precision,
) -> SFTTrainer:
    """SFTTrainer over `feed`, with adapters on `model`, and a teacher where there is one."""
    model.set_attn_implementation(precision.attention)
    settings = SFTConfig(
        **(arguments(run, config) | {"bf16": precision.name == "bf16"}),
        per_device_train_batch_size=config.packs_per_step,
        train_sampling_strategy="sequential",
        # Batches come tokenized, labelled and packed; TRL must not do it again.
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        packing=False,
    )
    family = feed.family
    given: dict[str, Any] = {
        "model": model,
        "args": settings,
        "data_collator": feed,
        "train_dataset": pack_numbers(config.steps * config.packs_per_step),
        "processing_class": processor,
        "peft_config": adapter_config(config.lora, connector=True),
    }
    teacher, distill = prepare_teacher(config, model, family), config.distill
    if teacher is None or distill is None:
        return SFTTrainer(**given)
    teacher.model.set_attn_implementation(precision.attention)
    return DistillingTrainer(
        family=family, teacher=teacher, weights=distill.weights, temperature=distill.temperature, **given
    )
