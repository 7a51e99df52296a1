"""The quantize stage: calibration tensors here, llm-compressor in its environment, the gates here again."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Final

from components.artifacts import Checkpoint, Dataset, Mixture, write_atomic
from components.config import QuantizeConfig
from components.environments import run as run_in
from components.loader import read_samples
from components.progress import Bar
from components.quantize import calibration
from components.quantize.gate import Weights, compare, language_only, same_files
from components.stage import Fields, Run, stage
from components.vlm import assert_contract, load_processor

SCRIPT: Final = Path(__file__).with_name("compress.py")
CONFIG: Final = "config.json"
RECIPE: Final = "recipe.yaml"


@stage("quantize", Checkpoint)
def quantize(
    run: Run, *, config: QuantizeConfig, checkpoint: Checkpoint, dataset: Dataset, mixture: Mixture
) -> Fields:
    """Compress the language model's linears to `config.scheme`; everything else stays bit-identical.

    Raises:
        ContractMismatch: the checkpoint's processor files changed since training.
        OpsinError: the quantize environment is missing, or llm-compressor failed.
        GateFailed: something else than the language model's linears was changed.
    """
    assert_contract(checkpoint.path, checkpoint.contract)
    compressed = run.scratch / "compressed"
    tensors = run.scratch / "calibration.safetensors"
    with Bar("quantize", total=3, unit="steps") as bar:
        bar.advance(0, note="drawing calibration samples")
        samples = read_samples(dataset, "train", categories=sorted(mixture.weights))
        # llm-compressor traces the model once, along the first batch: all of them must have images.
        samples = [sample for sample in samples if sample.images]
        examples = calibration.draw(samples, mixture.weights, config.calibration_samples, config.seed)
        tokens = calibration.write(examples, load_processor(checkpoint.path), tensors)
        bar.advance(note=f"llm-compressor, log in {run.logs}")
        began = time.monotonic()
        _compress(run, config, checkpoint.path, tensors, compressed)
        run.metrics["compress_s"] = round(time.monotonic() - began, 2)
        bar.advance(note="comparing tensors")
        copied = _assemble(checkpoint.path, compressed, run.output)
        before, after = Weights(checkpoint.path), Weights(run.output)
        comparison = compare(before, after)
        bar.advance()
    run.metrics |= {
        "bytes_before": before.bytes,
        "bytes_after": after.bytes,
        "tensors_compressed": len(comparison.compressed),
        "calibration_samples": len(examples),
        "calibration_tokens": tokens,
    }
    run.gate(language_only(comparison))
    run.gate(same_files(checkpoint.path, run.output, copied))
    assert_contract(run.output, checkpoint.contract)
    return {"quantized": True, "contract": checkpoint.contract}


def _compress(run: Run, config: QuantizeConfig, checkpoint: Path, tensors: Path, output: Path) -> None:
    shutil.rmtree(output, ignore_errors=True)
    options = {
        "checkpoint": checkpoint,
        "calibration": tensors,
        "output": output,
        "scheme": config.scheme,
        "smoothing": config.smoothing_strength,
        "seed": config.seed,
        "threads": config.execution.threads,
    }
    arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    run_in("quantize", [str(SCRIPT), *arguments], log=run.logs / "llm-compressor.log")


def _assemble(checkpoint: Path, compressed: Path, output: Path) -> list[str]:
    """Weights and recipe from `compressed`, all else from `checkpoint`; names of the copied files.

    The config is the checkpoint's own with the quantization section added: the quantize environment has
    another transformers, whose spelling of the rest is not wanted.
    """
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    for path in [*sorted(compressed.glob("*.safetensors*")), compressed / RECIPE]:
        shutil.copy2(path, output / path.name)
    written = json.loads((compressed / CONFIG).read_text())
    whole = json.loads((checkpoint / CONFIG).read_text())
    whole["quantization_config"] = written["quantization_config"]
    write_atomic(output / CONFIG, json.dumps(whole, indent=2, sort_keys=True) + "\n")
    copied = []
    for path in sorted(checkpoint.iterdir()):
        if path.is_file() and path.name != CONFIG and ".safetensors" not in path.suffixes:
            shutil.copy2(path, output / path.name)
            copied.append(path.name)
    return copied
