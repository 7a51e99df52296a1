"""What is checked around training: packing equivalence before it, loss and stopping after it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel

from components.engine.loss import PackedLoss
from components.gates.result import GateResult
from components.loader import IGNORED, Collator, Item, Pack, Packing, Sample, pack_once
from components.pretrain.meter import Progress
from components.vlm import generate
from components.vlm.families import Inputs
from components.vlm.features import FEATURES

EQUIVALENCE_TOLERANCE = 1e-4
MAY_RISE = 1.5
"""Of a single batch's loss, which is noisy, to that of the last ones."""
STOP_PROMPTS = 32
STOP_TOKENS = 32


def packing_equivalence(
    model: PreTrainedModel, collate: Collator, samples: Sequence[int], how: Packing
) -> GateResult:
    """Compare loss and gradients of one pack with those of its turns, each alone with its image.

    The single turns go through the model's own forward: no mask of ours, no positions of ours.

    Args:
        samples: Of these, as many as fit into one pack are compared.
    """
    packs = pack_once(collate.encoded, samples, how)
    pack = max(packs, key=len)
    model.requires_grad_(True)
    packed_loss, packed = _packed(model, collate, pack)
    single_loss, single = _singles(model, collate, pack)
    scale = max(float(gradient.abs().max()) for gradient in single.values())
    shared = packed.keys() & single.keys()
    gradient_error = max(float((packed[name] - single[name]).abs().max()) for name in shared) / scale
    loss_error = abs(packed_loss - single_loss)
    worst = max(loss_error, gradient_error)
    return GateResult(
        name="packing_equivalence",
        passed=packed.keys() == single.keys() and worst <= EQUIVALENCE_TOLERANCE,
        observed=f"loss differs by {loss_error:.1e}, gradients by {gradient_error:.1e} of the largest",
        required=f"at most {EQUIVALENCE_TOLERANCE:.0e} each, packed against single turns",
        fix="tokens of one sample reach another: check block_mask and position_ids in components/loader",
        evidence={"loss_error": loss_error, "gradient_error": gradient_error, "samples": len(pack)},
    )


def _packed(model: PreTrainedModel, collate: Collator, pack: Pack) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    losses_K = PackedLoss(model, collate.family)(collate([pack]).to(model.device))
    losses_K.mean().backward()
    return float(losses_K.detach().mean()), _take_gradients(model)


def _singles(model: PreTrainedModel, collate: Collator, pack: Pack) -> tuple[float, dict[str, torch.Tensor]]:
    """Sum over (image, turn) examples, divided by all their labelled tokens."""
    model.zero_grad()
    total, count = torch.zeros(()), 0
    for item in pack:
        for turn in range(item.first_turn, item.first_turn + item.num_turns):
            inputs, labelled = _example(collate, item, turn)
            on_device = {name: tensor.to(model.device) for name, tensor in inputs.items()}
            # `loss` is the mean over the example's labelled tokens.
            loss = _own_forward(model, on_device) * labelled
            torch.autograd.backward(loss)
            total, count = total + loss.detach().cpu(), count + labelled
    gradients = {name: gradient / count for name, gradient in _take_gradients(model).items()}
    return float(total) / count, gradients


def _own_forward(model: PreTrainedModel, inputs: dict[str, Any]) -> torch.Tensor:
    loss: torch.Tensor = model(**inputs, use_cache=False).loss
    return loss


def _example(collate: Collator, item: Item, turn: int) -> tuple[Inputs, int]:
    """A turn behind its trunk, as the model takes it alone, and its labelled tokens."""
    encoded = collate.encoded
    turns = encoded.turns(item.image)
    start, end = int(turns.start_T[turn]), int(turns.start_T[turn + 1])
    trunk, tokens, label_N = turns.trunk(item.sample), turns.tokens_N[start:end], turns.label_N[start:end]
    ids = torch.from_numpy(np.concatenate([trunk, tokens]).astype(np.int64))[None]
    learned = torch.from_numpy(np.concatenate([np.zeros(len(trunk), np.bool_), label_N]))[None]
    inputs: Inputs = {"input_ids": ids, "labels": ids.masked_fill(~learned, IGNORED)}
    for name, values in collate.family.token_inputs(ids[0].numpy().astype(np.int32), 0).items():
        inputs[name] = torch.from_numpy(values)[None]
    images = encoded.images_of(item.sample) if item.image else range(0)
    if len(images) and collate.features is not None:
        rows = np.concatenate([collate.features(image) for image in images])
        inputs[FEATURES] = torch.from_numpy(rows).float()
    elif len(images):
        pixels = np.concatenate([encoded.images(image) for image in images])
        inputs |= collate.family.image_inputs(torch.from_numpy(pixels), encoded.grids(item.sample))
    return inputs, int(label_N.sum())


def _take_gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    taken = {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    model.zero_grad()
    return taken


def loss_sane(progress: Progress, *, from_scratch: bool) -> GateResult:
    """The training loss is finite and fell; of a model that could already write, it did not rise far.

    Args:
        from_scratch: The first loss is that of random weights.
    """
    first, last = progress.first_loss, progress.last_loss
    most = first if from_scratch else first * MAY_RISE
    return GateResult(
        name="loss_sane",
        passed=math.isfinite(first) and math.isfinite(last) and last < most,
        observed=f"{first:.3f} at the first step, {last:.3f} at the end",
        required=f"finite, and below {most:.3f} at the end",
        fix="look at the loss per category; lower the learning rate if it rose",
        evidence={"first": first, "last": last, "skipped_steps": progress.skipped},
    )


def generation_stops(
    model: PreTrainedModel, processor: Any, samples: Sequence[Sample], *, required: float
) -> GateResult:
    """Share of greedy answers to the first questions of validation samples that end by themselves."""
    chosen = samples[:: max(1, len(samples) // STOP_PROMPTS)][:STOP_PROMPTS]
    prompts = [sample.asked(0).prompt() for sample in chosen]
    answers = generate(
        model, processor, prompts, max_new_tokens=STOP_TOKENS, batch_size=STOP_PROMPTS, title="stops?"
    )
    rate = sum(answer.ended for answer in answers) / len(answers)
    return GateResult(
        name="generation_stops",
        passed=rate >= required,
        observed=f"{rate:.0%} of {len(answers)} answers end within {STOP_TOKENS} tokens",
        required=f"at least {required:.0%}",
        fix="train longer; check that the end token is labelled and differs from the padding token",
        evidence={"end_token_rate": rate, "prompts": len(answers)},
    )


def answers_end(frame: pd.DataFrame, *, required: float) -> GateResult:
    """Share of validation answers behind which the end token is the most probable one: what can be told of a
    dataset that holds features and no pictures to generate from.

    Args:
        frame: Of `HeldOut.measure`.
    """
    rate = float(frame["ends"].mean())
    return GateResult(
        name="generation_stops",
        passed=rate >= required,
        observed=f"behind {rate:.0%} of {len(frame)} answers the end token is the most probable",
        required=f"at least {required:.0%}",
        fix="train longer; check that the end token is labelled and differs from the padding token",
        evidence={"end_token_rate": rate, "prompts": len(frame)},
    )
