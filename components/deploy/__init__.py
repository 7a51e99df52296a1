"""Bundle → release: registered, tried as a canary behind a gateway, promoted or rolled back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from components.deploy.release import deploy

__all__ = ["deploy"]


def __getattr__(name: str) -> Any:
    """Import the stage when it is first asked for: `opsin status` needs only `serving`, not torch."""
    if name == "deploy":
        from components.deploy.release import deploy

        return deploy
    raise AttributeError(name)
