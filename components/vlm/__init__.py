"""Models: a vision tower, a connector and a language model, their processor and its contract."""

from components.vlm.contract import CONTRACT_FILE, assert_contract, contract, contract_hash
from components.vlm.generation import Generation, Prompt, generate, prompt_inputs
from components.vlm.model import build_model, load_model, save, save_processor
from components.vlm.processor import build_processor, load_processor, messages, source_processor
from components.vlm.sources import (
    assert_digest,
    local_sources,
    locate_source,
    pin_sources,
    source_digest,
    source_digests,
)
from components.vlm.tokenizer import train_tokenizer

__all__ = [
    "CONTRACT_FILE",
    "Generation",
    "Prompt",
    "assert_contract",
    "assert_digest",
    "build_model",
    "build_processor",
    "contract",
    "contract_hash",
    "generate",
    "load_model",
    "load_processor",
    "local_sources",
    "locate_source",
    "messages",
    "pin_sources",
    "prompt_inputs",
    "save",
    "save_processor",
    "source_digest",
    "source_digests",
    "source_processor",
    "train_tokenizer",
]
