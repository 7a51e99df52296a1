"""The model family: an Idefics3 architecture (vision tower, connector, language model) and its processor."""

from components.vlm.contract import CONTRACT_FILE, assert_contract, contract, contract_hash
from components.vlm.generation import Generation, Prompt, generate
from components.vlm.model import build_model, load_model, save, save_processor
from components.vlm.processor import build_processor, load_processor, messages
from components.vlm.tokenizer import train_tokenizer

__all__ = [
    "CONTRACT_FILE",
    "Generation",
    "Prompt",
    "assert_contract",
    "build_model",
    "build_processor",
    "contract",
    "contract_hash",
    "generate",
    "load_model",
    "load_processor",
    "messages",
    "save",
    "save_processor",
    "train_tokenizer",
]
