"""The models that judge pictures: safety, and how well a picture and its text belong together."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from components.config.base import Frozen


class SafetyConfig(Frozen):
    """Yahoo's Open-NSFW over every picture: pornography in photographs, and nothing else.

    It never saw drawings. Of 9,600 emoji and clip-art drawings it scored two at 0.8 or more, a bear and a
    seal; exempt what is drawn from data.
    """

    max_score: float = Field(0.8, gt=0, le=1)
    """Probability above which a picture is rejected. Yahoo took 0.2 and less for safe, 0.8 and more for
    unsafe, and what lies between for a person to judge."""
    exempt: tuple[str, ...] = ()
    """Categories that are not judged: charts and digits drawn from data have nothing to be judged."""


class ContrastiveConfig(Frozen):
    """Two small towers trained on the corpus itself, cross-fitted: no sample is scored by a model that saw
    it. The text tower stands on the packaged MiniLM."""

    vision: Literal["open_nsfw", "pixels"] = "open_nsfw"
    """What the image tower stands on: features of the frozen Open-NSFW network (a ResNet that was trained
    on ImageNet first; free where safety is judged too, else some 14 ms a picture), or a convolutional
    network on 64×64 pixels that starts from nothing. On 9,500 drawings that one took six times as long to
    train (287 processor seconds) and told replaced texts from right ones less well (AUC 0.82, not 0.88, on
    clip art)."""
    folds: int = Field(5, ge=2, le=20)
    epochs: int = Field(15, ge=1)
    batch_size: int = Field(256, ge=2)
    learning_rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    hidden: int = Field(512, ge=8)
    """Width of the hidden layer of each tower."""
    width: int = Field(128, ge=8)
    """Of the space that pictures and texts meet in."""
    dropout: float = Field(0.5, ge=0, lt=1)
    max_train: int = Field(20_000, ge=2)
    """Pairs that each fold's model learns from at most (a seeded choice)."""
    max_negatives: int = Field(2000, ge=1)
    """Other texts of the same group that a pair's own text is compared with at most (a seeded choice)."""


class AlignmentConfig(Frozen):
    """How well picture and text belong together. Without a threshold the scores are only recorded; with one,
    training samples alone are rejected: a test set filtered by a model is a biased one.

    Name none where no pretrained model is named: of the 100 clip-art titles that a scorer trained on 9,500
    drawings found worst, 11 were wrong (3 of 120 drawn at random); the others named rare things rightly.
    """

    categories: tuple[str, ...] = Field(min_length=1)
    """Categories whose answers describe the picture; answers such as `yes` or `3` cannot be judged."""
    model: str = ""
    """A CLIP or SigLIP (a directory, or ORG/NAME@REVISION on the hub): scores are cosines. Empty:
    `contrastive` is trained on the corpus: scores are pointwise mutual information in nats."""
    contrastive: ContrastiveConfig = ContrastiveConfig()
    min_score: float | None = None
    """Reject what scores less. For a CLIP 0.2 to 0.3 is usual; for `contrastive` 0 means: this text is no
    likelier with this picture than any other of its group."""
    drop_share: float = Field(0.0, ge=0, lt=1)
    """Reject this share of each category's training samples, the lowest scores first."""

    @model_validator(mode="after")
    def _one_threshold(self) -> Self:
        if self.min_score is not None and self.drop_share:
            raise ValueError("min_score and drop_share both decide what is rejected: take one")
        return self
