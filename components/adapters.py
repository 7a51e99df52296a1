"""Low-rank adapters: where they sit, how they are merged, and the proof that they did something.

The language model's linear layers get adapters; the connector, which is one small matrix, is trained
whole where a stage asks for it. The vision tower, the embeddings, the norms and the head stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import peft
import torch
from transformers import Idefics3Processor, PreTrainedModel

from components.artifacts import Checkpoint
from components.config import LoraConfig
from components.gates import GateResult
from components.vlm import assert_contract, load_model, save

LANGUAGE_LINEARS: Final = r".*\btext_model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"
CONNECTOR: Final = "connector"

Weights = dict[str, torch.Tensor]


def adapter_config(config: LoraConfig, *, connector: bool) -> peft.LoraConfig:
    """PEFT's config: adapters on the language model's linear layers, `connector` trained whole or not."""
    return peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=LANGUAGE_LINEARS,
        modules_to_save=[CONNECTOR] if connector else None,
    )


def trained_names(names: Mapping[str, object], *, connector: bool) -> set[str]:
    """Which of a checkpoint's weights an `adapter_config` may change once merged."""
    language = re.compile(LANGUAGE_LINEARS + r"\.weight")
    return {
        name for name in names if language.fullmatch(name) or (connector and f".{CONNECTOR}." in f".{name}")
    }


def merge_and_save(
    trained: torch.nn.Module | None,
    *,
    parent: Checkpoint,
    processor: Idefics3Processor,
    output: Path,
    connector: bool,
) -> GateResult:
    """Fold the adapters into the parent's weights, write them to `output`, and check the effect.

    The weights go into a fresh copy of the parent, because trainers leave marks on the model object
    (a patched forward, token ids in configs) that have no place in a checkpoint.

    Returns:
        The gate `adapters_merged`: every trained weight differs from the parent, and no other does.

    Raises:
        ContractMismatch: the processor is no longer the parent's.
    """
    assert isinstance(trained, peft.PeftModel), "a trainer's model carries the adapters"
    weights = trained.merge_and_unload().state_dict()
    fresh = load_model(parent.path, expected_contract=parent.contract)
    before = {name: tensor.clone() for name, tensor in fresh.state_dict().items()}
    fresh.load_state_dict(weights)
    save(fresh, processor, output)
    assert_contract(output, parent.contract)
    after = saved_weights(output)
    return effect(before, after, trained=trained_names(before, connector=connector))


def saved_weights(directory: Path) -> Weights:
    """The weights as a consumer of the checkpoint loads them."""
    model: PreTrainedModel = load_model(directory)
    return dict(model.state_dict())


def effect(
    before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor], *, trained: set[str]
) -> GateResult:
    """Gate: the merged weights differ from the parent's where trained, and nowhere else."""
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    idle, stray = sorted(trained - changed), sorted(changed - trained)
    broken = sorted(name for name in after if not bool(torch.isfinite(after[name]).all()))
    observed = f"{len(changed & trained)} of {len(trained)} trained weights changed, {len(stray)} others"
    if broken:
        observed += f", {len(broken)} not finite"
    return GateResult(
        name="adapters_merged",
        passed=bool(trained) and not (idle or stray or broken) and before.keys() == after.keys(),
        observed=observed,
        required="every trained weight changed, no other one, all finite",
        fix="a trained weight that did not change means too few steps or a rate of 0; "
        "another that did means that adapters sit where they should not",
        evidence={
            "unchanged": ", ".join(idle[:5]) or None,
            "changed_elsewhere": ", ".join(stray[:5]) or None,
            "not_finite": ", ".join(broken[:5]) or None,
        },
    )
