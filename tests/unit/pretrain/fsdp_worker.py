"""One of several processes that train with FSDP2, on a machine without GPUs.

accelerate shards over GPUs only. Its state is told here that this is such a machine; sharding, gathering and
the exchange over gloo are PyTorch's own, as on GPUs.

    python -m torch.distributed.run --nproc-per-node 2 fsdp_worker.py JOB.json
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

from components.engine import Speed
from components.engine.precision import Precision
from components.loader import Collator, Feed
from components.pretrain.data import plan_for, prepare
from components.pretrain.distill import prepare_lesson
from components.pretrain.launch import Job
from components.pretrain.train import Machine, Trainer
from components.stage import Run
from components.vlm import build_model


def sharding() -> Accelerator:
    """An accelerator that shards whole decoder layers."""
    accelerator = Accelerator(cpu=True)
    accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=["LlamaDecoderLayer", "Idefics3EncoderLayer"],
        cpu_ram_efficient_loading=False,
        state_dict_type="FULL_STATE_DICT",
    )
    accelerator.state.distributed_type = DistributedType.FSDP
    PartialState._shared_state["distributed_type"] = DistributedType.FSDP
    return accelerator


def main() -> None:
    job = Job.model_validate_json(Path(sys.argv[1]).read_text())
    torch.set_num_threads(1)
    accelerator = sharding()
    corpus = prepare(job.config, job.dataset)
    plan, _ = plan_for(job.config, corpus, job.mixture.weights)
    torch.manual_seed(job.config.seed)
    model = build_model(job.config.model, corpus.family.tokenizer)
    collate = Collator(corpus.train, corpus.family, always_image=True)
    feed = Feed(plan, collate, rank=accelerator.process_index, ranks=accelerator.num_processes)
    machine = Machine(accelerator, Precision("fp32", "sdpa"), Speed(1.0, 1.0))
    run = Run("pretrain", job.fingerprint, job.directory)
    names, lesson = corpus.train.categories, prepare_lesson(job.config, model, corpus.family, pictures=True)
    trainer = Trainer(run, job.config, model, corpus.family, feed, names, machine, lesson=lesson)
    until = int(sys.argv[2])
    if until:
        trainer.total = until
    trainer.fit()
    assert trainer.bare().model is model
    accelerator.end_training()


if __name__ == "__main__":
    main()
