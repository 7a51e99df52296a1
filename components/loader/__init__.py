"""What training reads: shards → samples → items → packs → batches."""

from components.loader.batches import IGNORED, Batch, Collator, Isolation
from components.loader.corpus import load_encoded, save_encoded
from components.loader.encode import Encoded, encode
from components.loader.feed import Feed, Step
from components.loader.plan import Item, Pack, Plan, load_plan, save_plan
from components.loader.planning import Packing, Part, make_plan, pack_once
from components.loader.samples import SLOT, Asked, Sample, Turn, iter_samples, read_samples
from components.loader.shards import iter_shards, read_manifest

__all__ = [
    "IGNORED",
    "SLOT",
    "Asked",
    "Batch",
    "Collator",
    "Encoded",
    "Feed",
    "Isolation",
    "Item",
    "Pack",
    "Packing",
    "Part",
    "Plan",
    "Sample",
    "Step",
    "Turn",
    "encode",
    "iter_samples",
    "iter_shards",
    "load_encoded",
    "load_plan",
    "make_plan",
    "pack_once",
    "read_manifest",
    "read_samples",
    "save_encoded",
    "save_plan",
]
