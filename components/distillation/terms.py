"""The terms that a teacher adds to the loss, and how features are had without running a model twice.

Letters: K labelled tokens, V vocabulary, R rows of the pixel store (tiles or patches), P vectors of a row,
D width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

from components.vlm.families import Family, Inputs

FEATURE_TERMS: Final = ("vision", "connector")
"""Terms that compare vectors of an image."""


@dataclass
class Seen:
    """What a model made of the images on its way; None where it saw none."""

    vision: torch.Tensor | None = None
    """(R, P, D): what goes into the connector."""
    connector: torch.Tensor | None = None
    """(R, P, D): what comes out."""


@contextmanager
def watching(connector: nn.Module) -> Iterator[Seen]:
    """Keep what passes through a connector while a model runs."""
    seen = Seen()

    def keep(module: nn.Module, arguments: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        seen.vision, seen.connector = arguments[0], output

    handle = connector.register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


def look(model: PreTrainedModel, family: Family, images: Inputs | None) -> Seen:
    """Run tower and connector only."""
    connector = family.parts(model)["connector"][0]
    with watching(connector) as seen:
        if images is not None:
            features_RPD = family.tower(model, images)
            if seen.connector is None:  # Qwen's towers run it themselves
                connector(features_RPD)
    return seen


def vectors(seen: Seen, term: str) -> torch.Tensor:
    """What a term of `FEATURE_TERMS` compares."""
    found: Any = getattr(seen, term)
    assert torch.is_tensor(found), "a model that was shown images has features of them"
    return found


def soft_losses(student_KV: torch.Tensor, teacher_KV: torch.Tensor, temperature: float) -> torch.Tensor:
    """KL(teacher ‖ student) of each token at a temperature, times its square so that gradients keep their
    size (arXiv:1503.02531, section 2): (K,) in nats.

    Vocabularies are padded to round sizes, each model's to its own: the tokens that both have are compared.
    """
    shared = min(student_KV.shape[-1], teacher_KV.shape[-1])
    student, teacher = (
        functional.log_softmax(each[:, :shared].float() / temperature, dim=-1)
        for each in (student_KV, teacher_KV)
    )
    return functional.kl_div(student, teacher, log_target=True, reduction="none").sum(-1) * temperature**2


def cosine_distance(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """1 - cosine, mean over all vectors: towers scale their features differently, and a few of their
    dimensions are hundreds of times as large as the others, which would be all that a squared error sees."""
    return 1 - functional.cosine_similarity(student.float(), teacher.float(), dim=-1).mean()
