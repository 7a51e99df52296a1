"""Gates: what must hold before a hand-over. A gate gives a GateResult, never a bool."""

from components.gates.result import GateResult, require

__all__ = ["GateResult", "require"]
