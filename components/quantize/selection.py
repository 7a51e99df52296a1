"""The select stage: the quantized checkpoint where a paired test allows it, else the unquantized one."""

from __future__ import annotations

from components.artifacts import Checkpoint, Scores, link_files
from components.config import QuantizeConfig
from components.errors import ContractMismatch
from components.gates.quality import Bootstrap, non_inferior
from components.progress import console
from components.stage import Fields, Run, stage


@stage("select", Checkpoint)
def select(
    run: Run,
    *,
    config: QuantizeConfig,
    unquantized: Checkpoint,
    quantized: Checkpoint,
    unquantized_scores: Scores,
    quantized_scores: Scores,
) -> Fields:
    """Choose by a paired non-inferiority test on the same held-out questions (margin `config.margin`).

    The gate does not block: where it fails the unquantized checkpoint goes on, and the record says so.

    Raises:
        ContractMismatch: the two checkpoints have different processors.
        OpsinError: the two evaluations share no question.
    """
    if unquantized.contract != quantized.contract:
        raise ContractMismatch(
            f"the quantized checkpoint has contract {quantized.contract}, "
            f"the unquantized one {unquantized.contract}",
            where=quantized.uri,
            fix="quantize this checkpoint, then evaluate and select again",
        )
    how = Bootstrap(seed=config.seed)
    gate = run.gate(non_inferior(quantized_scores, unquantized_scores, config.margin, how))
    chosen = quantized if gate.passed else unquantized
    if gate.passed:
        console.print(f"quantize: the quantized checkpoint goes on ({gate.observed})", markup=False)
    else:
        console.print(
            f"quantize: falls back to the unquantized checkpoint: {gate.observed}; required {gate.required}",
            markup=False,
        )
    run.metrics["fell_back"] = float(not gate.passed)
    link_files(chosen.path, run.output)
    return {"quantized": chosen.quantized, "contract": chosen.contract}
