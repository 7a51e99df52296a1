"""Deduplication and decontamination at scale: columns in, columns out, memory linear in the samples.

    thumbnail()  →  Signatures.of(table)  →  deduplicate(signatures, config, evaluation_sets)  →  Verdicts

Pictures: perceptual hashes, all pairs within a distance by banding, then a look at the thumbnails. Texts:
MinHash, then the exact similarity. What stays is decided by priority, never by chains.
"""

from components.curate.duplicates.evaluation_sets import (
    EvaluationSet,
    read_evaluation_set,
    read_evaluation_sets,
    write_evaluation_set,
)
from components.curate.duplicates.leaks import Verdicts, deduplicate, find_leaks
from components.curate.duplicates.perceptual import THUMB_BYTES, thumbnail
from components.curate.duplicates.signatures import SCHEMA, Signatures

__all__ = [
    "SCHEMA",
    "THUMB_BYTES",
    "EvaluationSet",
    "Signatures",
    "Verdicts",
    "deduplicate",
    "find_leaks",
    "read_evaluation_set",
    "read_evaluation_sets",
    "thumbnail",
    "write_evaluation_set",
]
