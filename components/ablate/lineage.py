"""What a finished run was trained on, by its lineage record."""

from __future__ import annotations

from components.artifacts import Checkpoint, Mixture
from components.errors import OpsinError


def pools(checkpoint: Checkpoint) -> list[str]:
    """Digests of the datasets that it was trained on."""
    return [parent.digest for parent in checkpoint.load_record().parents if parent.kind == "dataset"]


def assert_trained_on(checkpoint: Checkpoint, mixture: Mixture) -> None:
    """
    Raises:
        OpsinError: it was trained on another mixture.
    """
    if mixture.digest not in {parent.digest for parent in checkpoint.load_record().parents}:
        raise OpsinError(
            f"a run was not trained on candidate '{mixture.name}'",
            where=checkpoint.record,
            fix="hand mixtures and the runs trained on them over in the same order",
        )
