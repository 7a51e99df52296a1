"""The training loss with a teacher: what it adds, and the linear maps that are trained beside the student.

Every term is a sum (over labelled tokens, or over rows of the pixel store), and is divided once, by what the
whole step holds. So accumulation and any number of processes give the same gradients.

Letters: K labelled tokens, V vocabulary, R rows of the pixel store, P vectors of a row, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

from components.config import DistillWeights, PretrainConfig
from components.distillation import (
    FEATURE_TERMS,
    Seen,
    Teacher,
    assert_reads_alike,
    assert_writes_alike,
    compare_widths,
    cosine_distance,
    load_teacher,
    look,
    soft_losses,
    vectors,
    watching,
)
from components.engine.loss import PackedLoss
from components.loader import Batch
from components.vlm.families import Family

SECTION = "pretrain.distill"


@dataclass(frozen=True)
class Losses:
    """Of one forward."""

    hard_K: torch.Tensor
    """Cross-entropy of each labelled token in nats, row by row."""
    distances: dict[str, torch.Tensor]
    """Term → its sum: `logits` over labelled tokens, the others over rows of the pixel store."""

    def detached(self) -> Losses:
        """The numbers alone."""
        distances = {term: distance.detach() for term, distance in self.distances.items()}
        return Losses(self.hard_K.detach(), distances)

    def objective(self, weights: DistillWeights, labelled: int, rows: float) -> torch.Tensor:
        """What is minimized.

        Args:
            labelled, rows: Tokens and rows of the whole step, which the sums are divided by.
        """
        parts = [self.hard_K.sum() * (weights.hard / labelled)] if weights.hard else []
        for term, distance in self.distances.items():
            number = max(rows, 1) if term in FEATURE_TERMS else labelled
            parts.append(distance * (getattr(weights, term) / number))
        return torch.stack(parts).sum()


@dataclass(frozen=True)
class Lesson:
    """A teacher that was found fit for a student, and what is trained to compare them."""

    teacher: Teacher
    maps: nn.ModuleDict
    """Term → linear map from the student's width to the teacher's, where those differ."""
    temperature: float


def prepare_lesson(
    config: PretrainConfig, model: PreTrainedModel, family: Family, *, pictures: bool
) -> Lesson | None:
    """Load the teacher and hold it against the student; None where no phase has one.

    Args:
        pictures: Whether there are any in the training data.

    Raises:
        ConfigError: the teacher reads, writes or sees otherwise than a term of a phase needs.
    """
    terms = {term for phase in config.phases for term, weight in phase.distill if weight} - {"hard"}
    if config.distill is None or not terms:
        return None
    teacher = load_teacher(config.distill, config.execution.downloads, SECTION, model.device)
    assert_reads_alike(teacher, family)
    if "logits" in terms:
        assert_writes_alike(teacher, family)
    compared = [term for term in FEATURE_TERMS if term in terms]
    if compared and not pictures:
        raise teacher.refuse(
            "there are no pictures in the training data, hence no features",
            "leave out distill.vision and .connector",
        )
    maps = build_maps(teacher, model, family, compared, config.seed)
    return Lesson(teacher, maps.to(model.device), config.distill.temperature)


def build_maps(
    teacher: Teacher, model: PreTrainedModel, family: Family, terms: Sequence[str], seed: int
) -> nn.ModuleDict:
    """A linear map for each term in which the widths differ; the same for the same seed.

    Raises:
        ConfigError: the teacher makes another number of vectors of a picture.
    """
    maps = nn.ModuleDict()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for term, (own, taught) in compare_widths(teacher, model, family, terms).items():
            if own != taught:
                maps[term] = nn.Linear(own, taught)
    return maps


class DistilledLoss(PackedLoss):
    """The student, its loss and its distances to the teacher as one module. The teacher is no part of it:
    wrappers neither shard nor synchronize what is not trained."""

    def __init__(self, model: PreTrainedModel, family: Family, lesson: Lesson) -> None:
        super().__init__(model, family)
        self.maps, self.weights = lesson.maps, DistillWeights()
        self._lesson = lesson

    def enter(self, weights: DistillWeights) -> list[nn.Parameter]:
        """Begin a phase; gives the parameters of the maps that it trains."""
        self.weights = weights
        for term, each in self.maps.items():
            each.requires_grad_(bool(getattr(weights, term)))
        return [parameter for parameter in self.maps.parameters() if parameter.requires_grad]

    def forward(self, batch: Batch) -> Losses:  # type: ignore[override]  # a wrapped module has one forward
        logits_KV, targets_K, seen = self._student(batch)
        hard_K = functional.cross_entropy(logits_KV, targets_K, reduction="none")
        if not self.weights.taught:
            return Losses(hard_K, {})
        taught_KV, shown = self._teacher(batch)
        distances = {
            term: self._distance(term, seen, shown, batch.num_rows)
            for term in FEATURE_TERMS
            if getattr(self.weights, term)
        }
        if taught_KV is not None:
            distances["logits"] = soft_losses(logits_KV, taught_KV, self._lesson.temperature).sum()
        return Losses(hard_K, distances)

    def _student(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, Seen]:
        if self.weights.writes:
            with watching(self.family.parts(self.model)["connector"][0]) as seen:
                logits_KV, targets_K = self.logits(batch)
            return logits_KV, targets_K, seen
        # Only tower and connector learn; what the language model makes of it is measured, in a forward.
        seen = look(self.model, self.family, batch.images)
        with torch.no_grad():
            logits_KV, targets_K = self.logits(batch)
        return logits_KV, targets_K, seen

    @torch.no_grad()
    def _teacher(self, batch: Batch) -> tuple[torch.Tensor | None, Seen]:
        """Its logits where they are learned from; without, its language model does not run."""
        teacher = self._lesson.teacher
        if not self.weights.logits:
            return None, look(teacher.model, teacher.family, batch.images)
        with watching(teacher.connector) as shown:
            taught_KV, _ = PackedLoss(teacher.model, teacher.family).logits(batch)
        return taught_KV, shown

    def _distance(self, term: str, seen: Seen, shown: Seen, rows: int) -> torch.Tensor:
        """Summed over rows of the pixel store: each is as many vectors as any other."""
        student = vectors(seen, term)
        mapped = self.maps[term](student) if term in self.maps else student
        return cosine_distance(mapped, vectors(shown, term)) * rows
