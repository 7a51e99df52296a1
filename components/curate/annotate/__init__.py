"""Annotation: new questions and answers from facts, tables, OCR and a teacher, validated and reviewed.

annotated = annotate(inputs, config.annotate, cache=folder, logs=run.logs, threads=2, seed=config.seed)
"""

from components.curate.annotate.annotating import Annotated, annotate
from components.curate.annotate.proposals import AnnotationInput, Proposed, RejectedTurn

__all__ = ["Annotated", "AnnotationInput", "Proposed", "RejectedTurn", "annotate"]
