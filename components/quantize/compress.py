"""Compress a checkpoint's language model with llm-compressor: SmoothQuant, then GPTQ, to int8 (W8A8).

Runs by path in the quantize environment, which has neither this project nor a processor; only files
cross: a model directory and calibration tensors in, a compressed model directory out.

    .venv-quantize/bin/python components/quantize/compress.py --checkpoint DIR --calibration FILE --output DIR

The calibration file is safetensors; batch N's model inputs are the tensors `N.input_ids`,
`N.attention_mask`, `N.pixel_values` …, samples of equal length along the first dimension.
"""

from __future__ import annotations

import argparse
import itertools
import random
from pathlib import Path

import torch
from llmcompressor import oneshot
from llmcompressor.modifiers.gptq import GPTQModifier
from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier
from safetensors.torch import load_file
from torch.utils.data import DataLoader
from transformers import AutoModelForImageTextToText, PreTrainedTokenizerFast

IGNORED = ["lm_head", "re:.*vision_model.*", "re:.*connector.*"]
"""What stays as it is: the gate in gate.py reads both checkpoints and proves it."""

LAYERS = "re:.*text_model.*"
SMOOTHED = [
    [[f"{LAYERS}q_proj", f"{LAYERS}k_proj", f"{LAYERS}v_proj"], f"{LAYERS}input_layernorm"],
    [[f"{LAYERS}gate_proj", f"{LAYERS}up_proj"], f"{LAYERS}post_attention_layernorm"],
]
"""Linears that read a norm's output, and the norm that takes over part of their activations' scale."""


def batches(path: Path) -> list[dict[str, torch.Tensor]]:
    """Model inputs, one dictionary per calibration batch, in the file's order."""
    named = sorted(load_file(path).items())
    grouped = itertools.groupby(named, key=lambda item: item[0].partition(".")[0])
    return [{name.partition(".")[2]: tensor for name, tensor in group} for _, group in grouped]


def compress(checkpoint: Path, calibration: Path, output: Path, *, scheme: str, smoothing: float) -> None:
    """Quantize the language model's linears; weights per channel, activations per token at run time."""
    model = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype="auto", local_files_only=True)
    inputs = batches(calibration)
    loader: DataLoader[dict[str, torch.Tensor]] = DataLoader(
        inputs,  # type: ignore[arg-type]  # a list is a map-style dataset
        batch_size=1,  # the file holds whole batches
        shuffle=False,
        collate_fn=lambda batch: batch[0],
    )
    oneshot(
        model=model,
        recipe=[
            SmoothQuantModifier(smoothing_strength=smoothing, mappings=SMOOTHED),
            GPTQModifier(targets="Linear", scheme=scheme, ignore=IGNORED),
        ],
        dataset=loader,
        # Unused with tensors as input, but left out it would be looked for, and only the processor is found.
        processor=PreTrainedTokenizerFast.from_pretrained(checkpoint),
        num_calibration_samples=sum(len(batch["input_ids"]) for batch in inputs),
        # One layer of the language model at a time; the vision tower runs in one piece before them.
        sequential_targets=[type(model.model.text_model.layers[0]).__name__],
    )
    model.save_pretrained(output, save_compressed=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--scheme", default="W8A8")
    parser.add_argument("--smoothing", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    random.seed(asked.seed)
    torch.manual_seed(asked.seed)
    torch.set_num_threads(asked.threads)
    compress(
        asked.checkpoint, asked.calibration, asked.output, scheme=asked.scheme, smoothing=asked.smoothing
    )


if __name__ == "__main__":
    main()
