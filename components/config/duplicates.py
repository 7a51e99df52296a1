"""Near duplicates and decontamination: what counts as one sample, and which evaluations are kept clean."""

from __future__ import annotations

from pydantic import Field

from components.config.base import Frozen


class NearDuplicateConfig(Frozen):
    """When two samples are one. The defaults were chosen on half of a constructed set of copies and hard
    negatives (`benchmarks/near_duplicates_quality.py`)."""

    same_text_distance: int = Field(2, ge=-1, le=16)
    """Bits of 64 by which the perceptual hashes of two pictures with the same text may differ, in categories
    of `same_text_only` and where one of them is held out; thumbnails are not looked at. -1: never."""
    image_distance: int = Field(8, ge=-1, le=10)
    """Bits of 64 by which the hashes of two pictures may differ to be compared at all, whatever their
    texts. -1: pictures alone never make a duplicate."""
    picture_difference: float = Field(0.5, ge=0, le=2)
    """What may be left of the luminance in the block that differs most, once one picture was fitted to the
    other, in units of the contrast."""
    colour_difference: float = Field(20.0, ge=0, le=255)
    """Levels by which the colour of two drawings may differ where it differs most. Between photographs (with
    hardly any plain block) colour does not count: a gray or recoloured copy is a copy."""
    mirrored: bool = True
    """Whether a held-out picture that was mirrored left to right still is that picture. Duplicates within a
    split are never mirrored: a left and a right arrow are two samples."""
    crop: float = Field(0.0, ge=0, le=0.2)
    """Share of the sides up to which a held-out picture may have been cropped (either way round) and still
    is that picture. 0 finds only slight crops; 0.05, 0.1 and 0.2 cost 5, 14 and 30 times as much."""
    text_threshold: float = Field(0.0, ge=0, le=1)
    """Jaccard similarity of the shingles from which two texts are nearly the same; 0: only equal ones are."""
    shingle_words: int = Field(0, ge=0, le=8)
    """Words of a shingle; 0: five characters, which suits captions and questions."""
    same_text_only: tuple[str, ...] = ()
    """Categories whose samples are told apart by their text (drawn from data: charts, digits, shapes): only
    an equal text makes a near picture a duplicate or a leak. `*`: all categories."""
    evaluation_sets: tuple[str, ...] = ()
    """Files written by `opsin data evaluation-set`: what they hold is removed from training and validation,
    and the data gate looks for it."""
