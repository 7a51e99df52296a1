"""The gates behind export: each runtime's logits and greedy tokens against PyTorch, on held-out inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from components.export.inputs import Batch
from components.export.onnx_runtime import OnnxModel
from components.gates.result import GateResult

STEPS = 8
"""Decode steps with the cache; PyTorch's greedy tokens are fed to both sides."""


@dataclass(frozen=True)
class Difference:
    """Largest absolute difference of logits, and how often the greedy token is the same."""

    prefill: float
    decode: float
    token_agreement: float


@dataclass(frozen=True)
class Trace:
    """Greedy decoding: logits of the prompt (B, L, V), of each step (STEPS × (B, V)), and the tokens."""

    prompt: torch.Tensor
    steps: list[torch.Tensor]
    tokens: list[torch.Tensor]


def same_model(ours: PreTrainedModel, theirs: PreTrainedModel, batches: Sequence[Batch]) -> GateResult:
    """Whether a reloaded directory computes the very same logits and greedy tokens as the checkpoint."""
    worst, same_tokens = 0.0, True
    for batch in batches:
        a, b = trace(ours, batch), trace(theirs, batch)
        real = batch.attention_mask.bool()
        worst = max(worst, _largest(a.prompt[real], b.prompt[real]))
        worst = max([worst, *(_largest(x, y) for x, y in zip(a.steps, b.steps, strict=True))])
        same_tokens &= all(torch.equal(x, y) for x, y in zip(a.tokens, b.tokens, strict=True))
    return GateResult(
        name="vllm_directory_parity",
        passed=worst == 0.0 and same_tokens,
        observed=f"largest logit difference {worst:.3g}, tokens {'equal' if same_tokens else 'differ'}",
        required="no difference, equal tokens",
        fix="the directory is incomplete or was changed while exporting; run export again",
        evidence={"difference": worst, "same_tokens": same_tokens, "prompts": _prompts(batches)},
    )


def compare_onnx(model: PreTrainedModel, onnx: OnnxModel, batches: Sequence[Batch]) -> Difference:
    """Prefill and `STEPS` decode steps in onnxruntime against PyTorch, both fed PyTorch's greedy tokens."""
    prefill = decode = 0.0
    agreed = total = 0
    for batch in batches:
        truth = trace(model, batch)
        mask, positions = batch.attention_mask, batch.position_ids
        step = onnx.prefill(
            batch.input_ids.numpy(), mask.numpy(), positions.numpy(), batch.pixel_values.numpy()
        )
        logits = torch.from_numpy(step.logits)
        prefill = max(prefill, _largest(logits[mask.bool()], truth.prompt[mask.bool()]))
        positions = positions[:, -1:]
        for wanted, tokens in zip(truth.steps, truth.tokens, strict=True):
            agreed += int((logits[:, -1].argmax(-1) == tokens).sum())
            total += len(tokens)
            mask, positions = _longer(mask), positions + 1
            step = onnx.step(tokens[:, None].numpy(), mask.numpy(), positions.numpy(), step.cache)
            logits = torch.from_numpy(step.logits)
            decode = max(decode, _largest(logits[:, -1], wanted))
    return Difference(prefill, decode, agreed / total)


def onnx_close(difference: Difference, tolerance: float) -> GateResult:
    """Whether the ONNX graphs stay within `tolerance` of PyTorch, in prefill and with the cache."""
    return GateResult(
        name="onnx_parity",
        # Written so that NaN fails.
        passed=difference.prefill <= tolerance and difference.decode <= tolerance,
        observed=f"prefill {difference.prefill:.3g}, decode {difference.decode:.3g}",
        required=f"at most {tolerance:.3g}",
        fix="the exporter translated an operator wrongly (a new torch or onnxruntime?), "
        "or export.tolerance is too tight for this model",
        evidence={
            "prefill": difference.prefill,
            "decode": difference.decode,
            "token_agreement": difference.token_agreement,
            "tolerance": tolerance,
        },
    )


@torch.no_grad()
def trace(model: PreTrainedModel, batch: Batch) -> Trace:
    """Greedy decoding of `STEPS` tokens in PyTorch, the end token not heeded."""
    # All tiles in a row: (N, 1, 3, height, width).
    pixels = batch.pixel_values[:, None]
    mask, positions = batch.attention_mask, batch.position_ids
    done = model(
        input_ids=batch.input_ids,
        attention_mask=mask,
        position_ids=positions,
        pixel_values=pixels,
        use_cache=True,
    )
    prompt, steps, tokens = done.logits, [], []
    positions = positions[:, -1:]
    for _ in range(STEPS):
        tokens.append(done.logits[:, -1].argmax(-1))
        mask, positions = _longer(mask), positions + 1
        done = model(
            input_ids=tokens[-1][:, None],
            attention_mask=mask,
            position_ids=positions,
            past_key_values=done.past_key_values,
            use_cache=True,
            **_seen(done),
        )
        steps.append(done.logits[:, -1])
    return Trace(prompt, steps, tokens)


def _seen(done: Any) -> dict[str, torch.Tensor]:
    """What a model with gated cross-attention keeps reading: its latents, and which a token sees."""
    if (index_BL := getattr(done, "image_index", None)) is None:
        return {}
    return {"image_latents": done.image_latents, "image_index": index_BL[:, -1:]}


def _longer(mask: torch.Tensor) -> torch.Tensor:
    return torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)


def _largest(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max())


def _prompts(batches: Sequence[Batch]) -> int:
    return sum(batch.size for batch in batches)
