"""The result every gate gives, and the one function that turns a failed one into a stop."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from components.errors import GateFailed


class GateResult(BaseModel):
    """What a gate saw, what it wanted, and where the proof lies."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    passed: bool
    observed: str
    required: str
    blocking: bool = True
    """A gate that does not block is reported; what follows decides (quantize falls back, for instance)."""
    fix: str = ""
    evidence: dict[str, str | int | float | bool | None] = Field(default_factory=dict)


def require(result: GateResult, *, where: str) -> None:
    """Raise GateFailed when a blocking gate did not pass."""
    if result.blocking and not result.passed:
        raise GateFailed(
            f"gate '{result.name}' failed: observed {result.observed}; required {result.required}",
            where=where,
            fix=result.fix or "see the evidence in the run's report",
        )
