"""The processor contract: what training assumed about text and images, asserted wherever a model is used.

A model served with another chat template, tokenizer or normalization still answers, only worse;
nothing crashes. So the contract is hashed when training starts and every hand-over asserts it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final

from transformers import Idefics3Processor

from components.errors import ContractMismatch
from components.vlm.processor import load_processor

CONTRACT_FILE: Final = "contract.json"


def contract(processor: Any) -> dict[str, Any]:
    """Everything in the processor that the weights depend on, as JSON values.

    Args:
        processor: Idefics3's, a composed model's, or another Hugging Face processor of pictures and text.
    """
    tokenizer = processor.tokenizer
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    # Padding and truncation are set by every call: transient state, not part of the tokenizer.
    state.pop("padding"), state.pop("truncation")
    return {
        "chat_template": processor.chat_template,
        "special_tokens": {
            token: tokenizer.convert_tokens_to_ids(token)
            for token in sorted(set(tokenizer.all_special_tokens))
        },
        "pad_token": tokenizer.pad_token,
        "end_token": tokenizer.eos_token,
        "tokenizer": hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest(),
        **(_tiles(processor) if isinstance(processor, Idefics3Processor) else _any_images(processor)),
    }


def _tiles(processor: Idefics3Processor) -> dict[str, Any]:
    """How pictures become tiles, and tiles tokens."""
    images = processor.image_processor
    values = {
        "image_size": _size(images.max_image_size),
        "resize": _size(images.size) if images.do_resize else None,
        "image_tokens": processor.image_seq_len,
        "tiling": images.do_image_splitting,
        "resample": int(images.resample),
        "rescale": images.rescale_factor if images.do_rescale else None,
        "mean": list(images.image_mean) if images.do_normalize else None,
        "std": list(images.image_std) if images.do_normalize else None,
    }
    # Idefics3's own contract has no such entry: released models are known by its hash.
    architecture = getattr(processor, "architecture", None)
    return values | ({"architecture": architecture} if architecture else {})


def _any_images(processor: Any) -> dict[str, Any]:
    """Of a processor of another family: its class, and all that its image processor holds."""
    return {"processor": type(processor).__name__, "images": processor.image_processor.to_dict()}


def contract_hash(values: dict[str, Any]) -> str:
    """SHA-256 of a contract."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, allow_nan=False).encode()).hexdigest()


def assert_contract(directory: Path, expected: str) -> None:
    """Compare the processor files in `directory`, as they are now, with the contract of training.

    Raises:
        ContractMismatch: they differ; names both hashes and every field that changed since saving.
    """
    found = contract(load_processor(directory))
    if contract_hash(found) == expected:
        return
    path = directory / CONTRACT_FILE
    saved = json.loads(path.read_text()) if path.is_file() else {}
    changed = [
        f"{key}: trained with {saved.get(key)!r:.120}, found {found.get(key)!r:.120}"
        for key in sorted(found.keys() | saved.keys())
        if saved and saved.get(key) != found.get(key)
    ]
    raise ContractMismatch(
        f"the processor is not the one the model was trained with: expected contract {expected}, "
        f"found {contract_hash(found)}" + "".join(f"\n    {line}" for line in changed),
        where=str(directory),
        fix="restore the processor files of the checkpoint, or train again with the new ones",
    )


def _size(size: Any) -> dict[str, int]:
    return {key: int(value) for key, value in dict(size).items() if value is not None}
