"""The `align` stage: TRL's DPOTrainer with the MPO loss and LoRA on preference pairs, images included.

    checkpoint = align(config=config.align, checkpoint=checkpoint, preferences=preferences)

MPO (arXiv:2411.10442) sums three terms: sigmoid (DPO: which answer is better), bco_pair (how good each
is by itself) and sft (how to write the good one), here at 0.8, 0.2 and 1.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from transformers import Idefics3Processor
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from components.adapters import adapter_config, merge_and_save
from components.align.collation import PairCollator, margins, preference_dataset
from components.align.pairs import Pair, read_pairs, split_pairs
from components.artifacts import Checkpoint, Preferences
from components.config import AlignConfig
from components.gates import GateResult
from components.stage import Fields, Run, stage
from components.trainers import arguments, finite_loss, train
from components.vlm import load_model, load_processor

LOGGED: Final = (
    "loss",
    "learning_rate",
    "grad_norm",
    "rewards/accuracies",
    "rewards/margins",
    "rewards/chosen",
    "rewards/rejected",
)


@stage("align", Checkpoint)
def align(run: Run, *, config: AlignConfig, checkpoint: Checkpoint, preferences: Preferences) -> Fields:
    """Train `checkpoint` to prefer the chosen answers, and merge the adapters.

    Raises:
        GateFailed: the loss is not finite, the merged weights changed where they should not (or not
            where they should), or held-out pairs are not told apart better than before.
        ContractMismatch: the checkpoint's processor is not the one it was trained with.
    """
    torch.set_num_threads(config.execution.threads)
    training, held_out = split_pairs(
        read_pairs(preferences.path), held_out_share=config.held_out_share, seed=config.seed
    )
    processor = load_processor(checkpoint.path)
    trainer = _trainer(run, config, checkpoint, processor, training)
    before = margins(load_model(checkpoint.path), processor, held_out, batch_size=config.batch_size)
    loss = train(
        trainer,
        run,
        config,
        metrics=lambda logs: {key: float(logs[key]) for key in LOGGED if key in logs},
        units=lambda: float(trainer.state.global_step * config.batch_size),
        unit="pairs",
    )
    run.gate(finite_loss(loss))
    run.gate(
        merge_and_save(
            trainer.model, parent=checkpoint, processor=processor, output=run.output, connector=False
        )
    )
    after = margins(load_model(run.output), processor, held_out, batch_size=config.batch_size)
    run.metrics |= {
        "loss": loss,
        "pairs_trained": float(len(training)),
        "preference_accuracy_before": _accuracy(before),
        "preference_accuracy": _accuracy(after),
    }
    run.gate(preference_accuracy(before, after))
    return {"contract": checkpoint.contract}


def preference_accuracy(before: torch.Tensor, after: torch.Tensor) -> GateResult:
    """Gate: held-out pairs are told apart better than before.

    Accuracy is the share of pairs whose chosen answer is the likelier one. A few dozen pairs can tie
    (or all be right already); then the mean margin must have grown.

    Args:
        before: Log-probability margins (chosen minus rejected) of the parent, shape (num_pairs,).
        after: The same pairs' margins of the aligned model.
    """
    accuracy = _accuracy(before), _accuracy(after)
    margin = float(before.mean()), float(after.mean())
    better = accuracy[1] > accuracy[0] or (accuracy[1] == accuracy[0] and margin[1] > margin[0])
    return GateResult(
        name="preference_accuracy",
        passed=better and bool(torch.isfinite(after).all()),
        observed=f"accuracy {accuracy[0]:.3f} → {accuracy[1]:.3f}, mean margin {margin[0]:.2f} → "
        f"{margin[1]:.2f} on {len(before)} held-out pairs",
        required="a higher accuracy (or, at the same one, a wider margin) than before",
        fix="raise align.steps or align.prompts, or lower align.learning_rate",
        evidence={"before": accuracy[0], "after": accuracy[1], "held_out_pairs": len(before)},
    )


def _trainer(
    run: Run,
    config: AlignConfig,
    checkpoint: Checkpoint,
    processor: Idefics3Processor,
    pairs: Sequence[Pair],
) -> DPOTrainer:
    """The trainer; its reference model is the parent itself, with the adapters switched off."""
    settings = DPOConfig(
        **arguments(run, config),
        per_device_train_batch_size=config.batch_size,
        loss_type=list(config.losses),
        loss_weights=list(config.loss_weights),
        beta=config.beta,
        max_length=None,
    )
    return DPOTrainer(
        model=load_model(checkpoint.path, expected_contract=checkpoint.contract),
        args=settings,
        data_collator=PairCollator(processor),
        train_dataset=preference_dataset(pairs),
        processing_class=processor,
        peft_config=adapter_config(config.lora, connector=False),
    )


def _accuracy(margin: torch.Tensor) -> float:
    return float((margin > 0).float().mean())
