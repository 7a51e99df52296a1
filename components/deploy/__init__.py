"""Bundle → release: registered, tried as a canary behind a gateway, promoted or rolled back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from components.deploy.release import deploy, serve_champion

__all__ = ["deploy", "serve_champion"]


def __getattr__(name: str) -> Any:
    """Import the stage when it is first asked for: `opsin status` needs only `serving`, not torch."""
    if name in __all__:
        from components.deploy import release

        return getattr(release, name)
    raise AttributeError(name)
