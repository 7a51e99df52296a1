"""Batches for TRL's DPOTrainer: pairs as its vision dataset, and its collator with one mask mended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import torch
from transformers import Idefics3Processor, PreTrainedModel
from trl.trainer.dpo_trainer import DataCollatorForVisionPreference

from components.align.pairs import Pair


class PairCollator(DataCollatorForVisionPreference):
    """TRL's collator, whose completions end with the end token.

    The chat template writes a line break after every message. TRL (1.16) takes it for a part of the
    answer; no model is trained to write it, so its arbitrary probability would blur every comparison.

    Args:
        processor: Processor of the checkpoint.
    """

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = super().torch_call(examples)
        mask = batch["completion_mask"]
        ends = (batch["input_ids"] == self.processor.tokenizer.eos_token_id).long() * mask
        after_end = ends.cumsum(dim=1) - ends > 0
        batch["completion_mask"] = mask.masked_fill(after_end, 0)
        return batch


def preference_dataset(pairs: Sequence[Pair]) -> datasets.Dataset:
    """Pairs in TRL's conversational vision format."""
    text = datasets.Value("string")
    answer = datasets.List({"role": text, "content": text})
    features = datasets.Features(
        {
            "images": datasets.List(datasets.Image(mode="RGB")),
            "prompt": datasets.List({"role": text, "content": datasets.List({"type": text, "text": text})}),
            "chosen": answer,
            "rejected": answer,
        }
    )
    rows = {
        "images": [[{"bytes": image, "path": None} for image in pair.images] for pair in pairs],
        "prompt": [pair.messages for pair in pairs],
        "chosen": [[{"role": "assistant", "content": pair.chosen}] for pair in pairs],
        "rejected": [[{"role": "assistant", "content": pair.rejected}] for pair in pairs],
    }
    return datasets.Dataset.from_dict(rows, features=features)


def margins(
    model: PreTrainedModel,
    processor: Idefics3Processor,
    pairs: Sequence[Pair],
    *,
    batch_size: int,
) -> torch.Tensor:
    """Log-probability of the chosen answer minus that of the rejected one, per pair; shape (num_pairs,)."""
    collator, rows = PairCollator(processor), preference_dataset(pairs)
    parts = []
    with torch.inference_mode():
        for start in range(0, len(pairs), batch_size):
            batch = collator([rows[index] for index in range(start, min(start + batch_size, len(pairs)))])
            completion_mask = batch.pop("completion_mask")[:, 1:]
            logits_BTV = model(**batch.to(model.device)).logits[:, :-1]
            picked = batch["input_ids"][:, 1:, None].to(model.device)
            log_probs_BT = logits_BTV.float().log_softmax(-1).gather(-1, picked)[..., 0].cpu()
            chosen, rejected = (log_probs_BT * completion_mask).sum(dim=1).chunk(2)
            parts.append(chosen - rejected)
    return torch.cat(parts)
