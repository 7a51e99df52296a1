"""How much of a tar file and of a JSON sidecar from strangers is read at most."""

from __future__ import annotations

from pydantic import Field

from components.config.base import Frozen


class TarLimits(Frozen):
    """What a member of a foreign tar may be; what is over it is a rejected member, never an error."""

    max_member_bytes: int = Field(64 << 20, ge=1)
    """Bytes of a member at most, as its header declares them."""
    max_members: int = Field(1_000_000, ge=1)
    """Headers read at most; the rest of the archive is one rejected member."""
    max_name_bytes: int = Field(1024, ge=16)
    """Bytes of a path."""
    max_json_bytes: int = Field(1 << 20, ge=16)
    """Bytes of a JSON sidecar."""
    max_json_depth: int = Field(32, ge=1, le=200)
    """Arrays and objects inside each other."""
