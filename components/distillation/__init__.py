"""Learning from a teacher: from its features, its logits, or its answers. Pretraining and sft stand on it."""

from components.distillation.answers import NO_ANSWERS, Answers, teacher_answers
from components.distillation.teacher import (
    Teacher,
    assert_reads_alike,
    assert_writes_alike,
    compare_widths,
    load_teacher,
    pin_teacher,
)
from components.distillation.terms import (
    FEATURE_TERMS,
    Seen,
    cosine_distance,
    look,
    soft_losses,
    vectors,
    watching,
)

__all__ = [
    "FEATURE_TERMS",
    "NO_ANSWERS",
    "Answers",
    "Seen",
    "Teacher",
    "assert_reads_alike",
    "assert_writes_alike",
    "compare_widths",
    "cosine_distance",
    "load_teacher",
    "look",
    "pin_teacher",
    "soft_losses",
    "teacher_answers",
    "vectors",
    "watching",
]
