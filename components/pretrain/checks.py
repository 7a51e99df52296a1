"""What is checked around training: packing equivalence before it, loss and stopping after it."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from transformers import Idefics3ForConditionalGeneration, Idefics3Processor

from components.gates.result import GateResult
from components.loader import IGNORED, Collator, Encoded, Item, Pack, pack_once
from components.loader.samples import Sample
from components.pretrain.loss import PackedLoss, labelled_categories
from components.pretrain.train import Progress
from components.vlm import Prompt, generate

EQUIVALENCE_TOLERANCE = 1e-4
EQUIVALENCE_TOKENS = 256
STOP_PROMPTS = 32
STOP_TOKENS = 32
VALIDATION_PACKS = 4


def packing_equivalence(
    model: Idefics3ForConditionalGeneration, collate: Collator, samples: Sequence[int]
) -> GateResult:
    """Compare loss and gradients of one pack with those of its turns, each alone with its image.

    The single turns go through the model's own forward: no mask of ours, no positions of ours.

    Args:
        samples: Of these, as many as fit into one pack are compared.
    """
    pack = pack_once(
        collate.encoded,
        samples,
        pack_tokens=max(EQUIVALENCE_TOKENS, _longest(collate, samples)),
        pack_images=8,
    )[0]
    packed_loss, packed = _packed(model, collate, pack)
    single_loss, single = _singles(model, collate, pack)
    scale = max(float(gradient.abs().max()) for gradient in single.values())
    gradient_error = max(float((packed[name] - single[name]).abs().max()) for name in single) / scale
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


def _longest(collate: Collator, samples: Sequence[int]) -> int:
    """Tokens of the longest single turn, prefix included."""
    turns, first = collate.encoded.with_image, collate.encoded.turn_S
    lengths = [np.diff(turns.start_T[first[sample] : first[sample + 1] + 1]).max() for sample in samples]
    return len(turns.prefix) + int(max(lengths))


def _packed(
    model: Idefics3ForConditionalGeneration, collate: Collator, pack: Pack
) -> tuple[float, dict[str, torch.Tensor]]:
    losses_K = PackedLoss(model)(**_to(model, collate([pack]).inputs))
    model.zero_grad()
    losses_K.mean().backward()
    return float(losses_K.detach().mean()), _take_gradients(model)


def _singles(
    model: Idefics3ForConditionalGeneration, collate: Collator, pack: Pack
) -> tuple[float, dict[str, torch.Tensor]]:
    """Sum over (image, turn) examples, divided by all their labelled tokens."""
    model.zero_grad()
    total, count = torch.zeros(()), 0
    for item in pack:
        for turn in range(item.first_turn, item.first_turn + item.num_turns):
            inputs, labelled = _example(collate, item, turn)
            # `loss` is the mean over the example's labelled tokens.
            loss = model(**_to(model, inputs), use_cache=False).loss * labelled
            loss.backward()
            total, count = total + loss.detach().cpu(), count + labelled
    gradients = {name: gradient / count for name, gradient in _take_gradients(model).items()}
    return float(total) / count, gradients


def _example(collate: Collator, item: Item, turn: int) -> tuple[dict[str, torch.Tensor], int]:
    turns = collate.encoded.turns(item.image)
    tokens = turns.tokens_N[turns.start_T[turn] : turns.start_T[turn + 1]]
    prompt = len(turns.prefix) + int(turns.answer_T[turn])
    ids = torch.from_numpy(np.concatenate([turns.prefix, tokens]).astype(np.int64))[None]
    labels = ids.clone()
    labels[:, :prompt] = IGNORED
    inputs = {"input_ids": ids, "labels": labels}
    if item.image:
        row = int(collate.encoded.image_S[item.sample])
        image = torch.from_numpy(np.array(collate.encoded.images_SCHW[row]))
        inputs["pixel_values"] = collate.normalize(image[None])[None]
    return inputs, ids.shape[1] - prompt


def _take_gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    taken = {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    model.zero_grad()
    return taken


def _to(model: Idefics3ForConditionalGeneration, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.to(model.device) for name, tensor in inputs.items()}


def loss_sane(progress: Progress) -> GateResult:
    """The training loss is finite and fell."""
    first, last = progress.first_loss, progress.last_loss
    return GateResult(
        name="loss_sane",
        passed=math.isfinite(first) and math.isfinite(last) and last < first,
        observed=f"{first:.3f} at the first step, {last:.3f} at the end",
        required="finite, and lower at the end",
        fix="look at the loss per category; lower the learning rate if it rose",
        evidence={"first": first, "last": last, "skipped_steps": progress.skipped},
    )


def generation_stops(
    model: Idefics3ForConditionalGeneration,
    processor: Idefics3Processor,
    samples: Sequence[Sample],
    *,
    required: float,
) -> GateResult:
    """Share of greedy answers to validation questions that end by themselves."""
    chosen = samples[:: max(1, len(samples) // STOP_PROMPTS)][:STOP_PROMPTS]
    prompts = [Prompt(_picture(sample), sample.turns[0].question) for sample in chosen]
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


def _picture(sample: Sample) -> Image.Image | None:
    return None if sample.image is None else Image.open(io.BytesIO(sample.image)).convert("RGB")


def validation_losses(
    model: Idefics3ForConditionalGeneration,
    collate: Collator,
    *,
    samples_per_category: int,
    seed: int,
    pack_tokens: int,
    pack_images: int,
) -> dict[str, float]:
    """Mean loss per labelled token of each category, over a seeded choice of the validation split."""
    encoded = collate.encoded
    packs = pack_once(
        encoded, choose(encoded, samples_per_category, seed), pack_tokens=pack_tokens, pack_images=pack_images
    )
    size = len(encoded.categories)
    sums, counts = torch.zeros(size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64)
    module = PackedLoss(model).eval()
    with torch.inference_mode():
        for start in range(0, len(packs), VALIDATION_PACKS):
            batch = collate(packs[start : start + VALIDATION_PACKS])
            losses_K = module(**_to(model, batch.inputs)).cpu().double()
            categories_K = labelled_categories(batch)
            sums.index_add_(0, categories_K, losses_K)
            counts.index_add_(0, categories_K, torch.ones_like(losses_K))
    return {name: float(sums[index] / counts[index]) for index, name in enumerate(encoded.categories)}


def choose(encoded: Encoded, samples_per_category: int, seed: int) -> list[int]:
    """A seeded choice of at most so many samples of each category."""
    chosen = list[int]()
    for category in range(len(encoded.categories)):
        samples = np.flatnonzero(encoded.category_S == category)
        order = np.random.default_rng([seed, category]).permutation(samples)
        chosen.extend(order[:samples_per_category].tolist())
    return chosen
