"""The `align` stage: TRL's DPOTrainer with the MPO loss and LoRA on preference pairs, images included.

    checkpoint = align(config=config.align, checkpoint=checkpoint, preferences=preferences)

MPO (arXiv:2411.10442) sums three terms: sigmoid (DPO: which answer is better), bco_pair (how good each
is by itself) and sft (how to write the good one), here at 0.8, 0.2 and 1.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from scipy.stats import binomtest
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

SIGNIFICANCE: Final = 0.05
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
        "preference_margin_before": float(before.mean()),
        "preference_margin": float(after.mean()),
    }
    run.gate(preference_accuracy(before, after))
    return {"contract": checkpoint.contract}


def preference_accuracy(before: torch.Tensor, after: torch.Tensor) -> GateResult:
    """Gate: held-out pairs are told apart better than before.

    Accuracy is the share of pairs whose chosen answer is the likelier one. It moves by whole pairs, and
    on some tens of them chance alone moves it by several points; the mean margin moves smoothly. So the
    margin must have grown, and the accuracy must not be lower beyond chance (exact one-sided sign test
    on the pairs that changed sides, as McNemar's).

    Args:
        before: Log-probability margins (chosen minus rejected) of the parent, shape (num_pairs,).
        after: The same pairs' margins of the aligned model.
    """
    accuracy = _accuracy(before), _accuracy(after)
    margin = float(before.mean()), float(after.mean())
    won, lost = int(((before <= 0) & (after > 0)).sum()), int(((before > 0) & (after <= 0)).sum())
    p_worse = float(binomtest(lost, won + lost, alternative="greater").pvalue) if won + lost else 1.0
    return GateResult(
        name="preference_accuracy",
        passed=margin[1] > margin[0] and p_worse >= SIGNIFICANCE and bool(torch.isfinite(after).all()),
        observed=f"mean margin {margin[0]:.2f} → {margin[1]:.2f}, accuracy {accuracy[0]:.3f} → "
        f"{accuracy[1]:.3f} ({won} pairs won, {lost} lost) on {len(before)} held-out pairs",
        required=f"a wider margin than before, and no loss of accuracy beyond chance (p ≥ {SIGNIFICANCE})",
        fix="raise align.prompts, or lower align.learning_rate",
        evidence={
            "before": accuracy[0],
            "after": accuracy[1],
            "p_worse": p_worse,
            "held_out_pairs": len(before),
        },
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
