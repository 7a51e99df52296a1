"""The export stage: `vllm/` as vLLM serves it and `onnx/`, each compared with PyTorch on held-out inputs.

Of a composed model (`prefix`, `gated_cross_attention`) there is the directory of safetensors alone: neither
vLLM nor our graphs know its architecture.

The vLLM directory holds the chosen checkpoint, quantized or not. The ONNX graphs hold the reference, the
unquantized weights in fp32: int8 with scales per token is compressed-tensors' format, which onnxruntime
does not run. The manifest beside them and the metric `onnx_quantized` say so.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedModel

from components.artifacts import Bundle, Checkpoint, Dataset, link_files
from components.config import ExportConfig
from components.errors import ContractMismatch
from components.export import onnx_graphs, parity
from components.export.inputs import Batch, draw
from components.export.onnx_runtime import OnnxModel
from components.progress import Bar
from components.stage import Fields, Run, stage
from components.vlm import assert_contract, load_model, load_processor
from components.vlm.processor import Processor


@stage("export", Bundle)
def export(
    run: Run, *, config: ExportConfig, checkpoint: Checkpoint, reference: Checkpoint, dataset: Dataset
) -> Fields:
    """Write the bundle of `checkpoint`, and of its unquantized `reference` for ONNX.

    Raises:
        ContractMismatch: the processor files changed since training, or the two checkpoints' differ.
        GateFailed: a runtime computes something else than PyTorch.
    """
    _assert_contracts(checkpoint, reference)
    processor = load_processor(checkpoint.path)
    batches = draw(dataset, processor, config.parity_samples, config.seed)
    with Bar("export", total=3, unit="steps") as bar:
        bar.advance(0, note="vLLM directory")
        served = run.output / "vllm"
        link_files(checkpoint.path, served)
        assert_contract(served, checkpoint.contract)
        bar.advance(note="comparing the vLLM directory")
        run.gate(parity.same_model(load_model(checkpoint.path), load_model(served), batches))
        bar.advance(note="ONNX graphs")
        run.metrics |= {
            "bytes_vllm": _bytes(served),
            "parity_samples": sum(batch.size for batch in batches),
        }
        model = load_model(reference.path)
        if onnx_graphs.supported(model):
            _export_onnx(run, config, model, processor, batches)
        bar.advance()
    return {"quantized": checkpoint.quantized, "contract": checkpoint.contract}


def _export_onnx(
    run: Run, config: ExportConfig, model: PreTrainedModel, processor: Processor, batches: Sequence[Batch]
) -> None:
    graphs = run.output / "onnx"
    shutil.rmtree(graphs, ignore_errors=True)
    onnx_graphs.write(model, processor, graphs)
    difference = parity.compare_onnx(model, OnnxModel(graphs, threads=config.execution.threads), batches)
    run.metrics |= {
        "bytes_onnx": _bytes(graphs),
        "onnx_quantized": 0.0,
        "onnx_diff_prefill": difference.prefill,
        "onnx_diff_decode": difference.decode,
        "onnx_token_agreement": difference.token_agreement,
    }
    run.gate(parity.onnx_close(difference, config.tolerance))


def _assert_contracts(checkpoint: Checkpoint, reference: Checkpoint) -> None:
    for each in (checkpoint, reference):
        assert_contract(each.path, each.contract)
    if checkpoint.contract != reference.contract:
        raise ContractMismatch(
            f"the chosen checkpoint has contract {checkpoint.contract}, "
            f"its unquantized reference {reference.contract}",
            where=checkpoint.uri,
            fix="export the reference that the chosen checkpoint was quantized from",
        )


def _bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
