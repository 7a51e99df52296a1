"""What training reads: shards → samples → packs → batches."""

from components.loader.batches import IGNORED, Batch, Collator, block_mask, moved
from components.loader.encode import Encoded, Turns, encode, load_encoded, save_encoded
from components.loader.packs import Item, Pack, PackStream, pack_once
from components.loader.samples import Sample, Turn, read_samples
from components.loader.shards import iter_shards, read_manifest

__all__ = [
    "IGNORED",
    "Batch",
    "Collator",
    "Encoded",
    "Item",
    "Pack",
    "PackStream",
    "Sample",
    "Turn",
    "Turns",
    "block_mask",
    "encode",
    "iter_shards",
    "load_encoded",
    "moved",
    "pack_once",
    "read_manifest",
    "read_samples",
    "save_encoded",
]
