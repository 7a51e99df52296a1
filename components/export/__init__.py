"""Export: the bundle that runtimes load (vLLM directory, ONNX graphs), each compared with PyTorch.

bundle = export(config=config, checkpoint=chosen, reference=unquantized, dataset=dataset)
"""

from components.export.bundle import export

__all__ = ["export"]
