"""The gates behind quantization, read from the files themselves, before and after.

A vision tower quantized by mistake still loads and still answers, a little worse on every image; so the
tensors are compared, not the recipe.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open

from components.artifacts import digest_file
from components.gates.result import GateResult

LANGUAGE = "text_model."
EMBEDDING = "embed_tokens."
COMPRESSED_SUFFIXES = (".weight_scale", ".weight_zero_point", ".weight_shape", ".weight_g_idx")
"""What compressed-tensors stores beside a compressed weight."""


class Weights:
    """The tensors of a model directory, read one at a time (shards or one file)."""

    def __init__(self, directory: Path) -> None:
        self.files = sorted(directory.glob("*.safetensors"))
        self.place: dict[str, Path] = {}
        for path in self.files:
            with safe_open(path, framework="pt") as file:
                self.place |= dict.fromkeys(file.keys(), path)

    def __getitem__(self, name: str) -> torch.Tensor:
        with safe_open(self.place[name], framework="pt") as file:
            tensor: torch.Tensor = file.get_tensor(name)
        return tensor

    @property
    def names(self) -> set[str]:
        return set(self.place)

    @property
    def bytes(self) -> int:
        """Size on disk."""
        return sum(path.stat().st_size for path in self.files)


@dataclass
class Comparison:
    """What happened to each tensor, by name."""

    compressed: list[str] = field(default_factory=list)
    """The language model's linears that are int8 now."""
    uncompressed: list[str] = field(default_factory=list)
    """The language model's linears that are not."""
    touched: list[str] = field(default_factory=list)
    """Tensors that had to stay bit-identical and did not, disappeared, or came from nowhere."""


def compare(before: Weights, after: Weights) -> Comparison:
    """Every tensor of both, judged: the language model's linears must be int8, its norms may be rescaled
    (SmoothQuant moves scale into them), everything else must be bit-identical."""
    result = Comparison()
    for name in sorted(before.names):
        if name not in after.names:
            result.touched.append(name)
            continue
        old, new = before[name], after[name]
        if _is_language_linear(name, old):
            packed = new.dtype == torch.int8 and name.replace(".weight", ".weight_scale") in after.names
            (result.compressed if packed else result.uncompressed).append(name)
        elif LANGUAGE in name and old.ndim == 1:
            if old.shape != new.shape or old.dtype != new.dtype:
                result.touched.append(name)
        elif old.dtype != new.dtype or not torch.equal(old, new):
            result.touched.append(name)
    owners = {name.removesuffix(".weight") for name in result.compressed}
    for name in sorted(after.names - before.names):
        owner = next((name.removesuffix(end) for end in COMPRESSED_SUFFIXES if name.endswith(end)), "")
        if owner not in owners:
            result.touched.append(name)
    return result


def language_only(comparison: Comparison) -> GateResult:
    """Whether the language model's linears were compressed, all of them, and nothing else was touched."""
    wrong = comparison.touched + comparison.uncompressed
    return GateResult(
        name="language_model_only",
        passed=bool(comparison.compressed) and not wrong,
        observed=(
            f"{len(comparison.compressed)} language linears int8, {len(comparison.uncompressed)} not; "
            f"{len(comparison.touched)} other tensors changed{_first(wrong)}"
        ),
        required="all language linears int8; vision tower, connector, embeddings and head bit-identical",
        fix="mend the targets and ignore lists in components/quantize/compress.py",
        evidence={
            "compressed": len(comparison.compressed),
            "uncompressed": len(comparison.uncompressed),
            "touched": len(comparison.touched),
            "first": (wrong or [""])[0],
        },
    )


def same_files(before: Path, after: Path, names: list[str]) -> GateResult:
    """Whether the files `names` (processor, tokenizer, chat template, contract) are byte-identical."""
    changed = [
        name
        for name in names
        if not (after / name).is_file() or digest_file(before / name) != digest_file(after / name)
    ]
    return GateResult(
        name="processor_unchanged",
        passed=bool(names) and not changed,
        observed=f"{len(names)} files, {len(changed)} differ{_first(changed)}",
        required="all identical",
        fix="run quantize again; processor files are copied, never written",
        evidence={"files": len(names), "differ": len(changed)},
    )


def _is_language_linear(name: str, tensor: torch.Tensor) -> bool:
    return LANGUAGE in name and EMBEDDING not in name and name.endswith(".weight") and tensor.ndim == 2


def _first(names: list[str]) -> str:
    return f" (first: {names[0]})" if names else ""
