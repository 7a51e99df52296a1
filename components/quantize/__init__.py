"""Quantization: the language model to int8 (W8A8) in llm-compressor's own environment, then a paired test.

compressed = quantize(config=config, checkpoint=checkpoint, dataset=dataset, mixture=mixture)
chosen = select(config=config, unquantized=checkpoint, quantized=compressed,
                unquantized_scores=scores, quantized_scores=compressed_scores)
"""

from components.quantize.compression import quantize
from components.quantize.selection import select

__all__ = ["quantize", "select"]
