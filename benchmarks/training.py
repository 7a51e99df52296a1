"""Training on the same model and data: ours against TRL's padding to the longest, and against naive packing.

python -m benchmarks.training [--quick]

Made pictures of 16 coloured cells; the answer names the cells, over and over where more are asked for. How
many is log-normal (a few to 256), so lengths are as heavy-tailed as those of mixed VLM data. All contenders
train a 3.3M-parameter Idefics3 from the same weights in fp32 with AdamW, on answers only, and count useful
tokens alone.

- TRL: SFTTrainer with its own collator for pictures, 16 samples a step padded to the longest.
- naive packing: samples one behind another until a pack is full, a plain causal mask and one ramp of
  positions over the pack (as nanoVLM does), on our loop.
- ours: pooled packs, samples apart.

`curve` has each one's held-out loss after 300 steps from three seeds (weights and order of samples): faster
is only better where it learns as much. The floor is our loop on one batch over and over: no loader.
"""

from __future__ import annotations

import io
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import datasets
import numpy as np
import torch
from PIL import Image
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    TrainerCallback,
    get_cosine_schedule_with_warmup,
)
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from benchmarks.harness import Contender, compare, quick, report
from components.config import ModelConfig
from components.engine.loss import PackedLoss
from components.loader import (
    Batch,
    Collator,
    Encoded,
    Packing,
    Part,
    Sample,
    Turn,
    encode,
    make_plan,
)
from components.pretrain.measure import HeldOut
from components.vlm import build_model, build_processor, train_tokenizer
from components.vlm.families import Family, family_of

COLOURS = {
    "red": (220, 40, 40), "green": (40, 170, 60), "blue": (50, 70, 220), "yellow": (230, 210, 50),
    "black": (10, 10, 10), "white": (245, 245, 245), "purple": (140, 50, 170), "orange": (240, 140, 30),
}  # fmt: skip
CELLS = 4
"""Of a side: as many as image tokens."""
LONGEST = 256
QUESTION = "Name {} cells."
SAMPLES_PER_STEP = 16
PACK_TOKENS, PACK_IMAGES = 320, 32
"""A pack holds the longest sample and little more: attention costs a pack's square."""
RATE = 2e-3
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Setting:
    """What all contenders share."""

    family: Family
    samples: list[Sample]
    train: Encoded
    held_out: HeldOut
    useful: np.ndarray[Any, Any]
    """Tokens of each training sample."""

    @property
    def tokens_per_step(self) -> float:
        return float(SAMPLES_PER_STEP * self.useful.mean())

    def model(self, seed: int = 0) -> PreTrainedModel:
        torch.manual_seed(seed)
        return build_model(MODEL, self.family.tokenizer)


MODEL = ModelConfig(vocab_size=400, max_positions=1024)


def made(number: int, seed: int) -> list[Sample]:
    """Pictures of coloured cells with answers of log-normal length."""
    random = np.random.default_rng(seed)
    names = list(COLOURS)
    samples = []
    for index in range(number):
        cells = random.integers(0, len(names), (CELLS, CELLS))
        pixels = np.array(list(COLOURS.values()), dtype=np.uint8)[cells].repeat(16, 0).repeat(16, 1)
        png = io.BytesIO()
        Image.fromarray(pixels).save(png, "PNG")
        length = int(np.clip(np.exp(random.normal(2.5, 1.3)), 1, LONGEST))
        answer = " ".join(names[cell] for cell in np.resize(cells, length))
        turn = Turn(QUESTION.format(length), answer)
        samples.append(Sample(f"{seed}-{index}", "cells", "", "train", (png.getvalue(),), (turn,)))
    return samples


def prepare(number: int) -> Setting:
    samples, held_out = made(number, 1), made(200, 2)
    texts = [turn.question for each in samples for turn in each.turns]
    texts += [f" {turn.answer}" for each in samples for turn in each.turns]
    family = family_of(build_processor(train_tokenizer(texts, MODEL.vocab_size), MODEL))
    train = encode(samples, family)
    useful = train.with_image.trunk_tokens_S + np.diff(train.with_image.start_T)
    validation = encode(held_out, family)
    how = Packing(pack_tokens=PACK_TOKENS, pack_images=PACK_IMAGES, packs_per_step=1)
    return Setting(family, samples, train, HeldOut(Collator(validation, family), range(200), how), useful)


def our_batches(setting: Setting, steps: int, *, naive: bool, seed: int = 0) -> Iterator[Batch]:
    """Batches of about as many useful tokens as TRL's steps have, collated as they are asked for; the plan is
    made now (TRL's clock starts at its first step too)."""
    packs = max(1, round(setting.tokens_per_step / PACK_TOKENS))
    how = Packing(
        pack_tokens=PACK_TOKENS,
        pack_images=PACK_IMAGES,
        packs_per_step=packs,
        strategy="next_fit" if naive else "pooled",
        seed=seed,
    )
    plan = make_plan(setting.train, [Part({"cells": 1.0}, steps=steps)], how)
    collate = Collator(setting.train, setting.family)
    batches = (collate(plan.step(number)) for number in range(steps))
    return map(_leaking, batches) if naive else batches


def _leaking(batch: Batch) -> Batch:
    """A plain causal mask, and one ramp of positions over the pack."""
    rows, length = batch.input_ids_BL.shape
    causal = torch.full((length, length), torch.finfo(torch.float32).min).triu(1)
    return replace(
        batch,
        attention={"attention_mask": causal.expand(rows, 1, length, length)},
        position_ids_ABL=torch.arange(length).expand(1, rows, length),
    )


def train_ours(
    setting: Setting, model: PreTrainedModel, batches: Iterator[Batch], total: int
) -> tuple[float, int]:
    """Seconds and useful tokens of training on the batches."""
    module, tokens = PackedLoss(model.train(), setting.family), 0
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.0, fused=True
    )
    schedule = get_cosine_schedule_with_warmup(optimizer, max(1, round(0.05 * total)), total)
    begin = time.perf_counter()
    for batch in batches:
        module(batch).mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        tokens += batch.num_tokens
    return time.perf_counter() - begin, tokens


class _Clock(TrainerCallback):
    """Time from the first step to the last."""

    begin = end = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.begin = self.begin or time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.end = time.perf_counter()


def train_trl(setting: Setting, model: PreTrainedModel, steps: int, seed: int = 0) -> tuple[float, int]:
    """Seconds and useful tokens of TRL's SFTTrainer."""
    order = np.random.default_rng(seed).permutation(len(setting.samples))
    chosen = np.resize(order, steps * SAMPLES_PER_STEP)
    rows = {
        "images": [[{"bytes": setting.samples[each].images[0], "path": None}] for each in chosen],
        "prompt": [[{"role": "user", "content": setting.samples[each].turns[0].question}] for each in chosen],
        "completion": [
            [{"role": "assistant", "content": setting.samples[each].turns[0].answer}] for each in chosen
        ],
    }
    message = datasets.List({"role": datasets.Value("string"), "content": datasets.Value("string")})
    features = datasets.Features(
        {"images": datasets.List(datasets.Image(mode="RGB")), "prompt": message, "completion": message}
    )
    clock = _Clock()
    with tempfile.TemporaryDirectory() as folder:
        settings = SFTConfig(
            output_dir=folder,
            max_steps=steps,
            per_device_train_batch_size=SAMPLES_PER_STEP,
            learning_rate=RATE,
            lr_scheduler_type="cosine",
            warmup_steps=max(1, round(0.05 * steps)),
            adam_beta2=0.95,
            weight_decay=0.0,
            max_grad_norm=1.0,
            bf16=False,
            use_cpu=True,
            gradient_checkpointing=False,
            max_length=None,
            completion_only_loss=True,
            train_sampling_strategy="sequential",
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = SFTTrainer(
            model=model.train(),
            args=settings,
            train_dataset=datasets.Dataset.from_dict(rows, features=features),
            processing_class=setting.family.processor,
            callbacks=[clock],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return clock.end - clock.begin, int(setting.useful[chosen].sum())


def held_out_loss(setting: Setting, model: PreTrainedModel) -> float:
    measured = setting.held_out.measure(PackedLoss(model, setting.family), torch.device("cpu"))
    return measured.losses()["cells"]


def main() -> None:
    is_quick = quick(__doc__ or "")
    setting = prepare(500 if is_quick else 6000)
    steps, rounds, long = (4, 1, 8) if is_quick else (20, 5, 300)
    work = setting.tokens_per_step * steps

    def per_work(seconds: float, tokens: int) -> float:
        """Seconds for the common amount of useful tokens."""
        return seconds * work / tokens

    def ours(naive: bool = False) -> float:
        batches = our_batches(setting, steps, naive=naive)
        return per_work(*train_ours(setting, setting.model(), batches, steps))

    def floor() -> float:
        batch = next(our_batches(setting, 1, naive=False))
        return per_work(*train_ours(setting, setting.model(), itertools.repeat(batch, steps), steps))

    result = compare(
        name="training",
        claim="useful tokens/s beside TRL's SFTTrainer; held-out losses under `curve`",
        unit="useful tokens/s",
        work=work,
        ours=Contender("opsin", ours),
        peers=[
            Contender(
                "TRL SFTTrainer, padded to the longest",
                lambda: per_work(*train_trl(setting, setting.model(), steps)),
            ),
            Contender("naive packing", lambda: ours(naive=True)),
        ],
        floor=Contender("one batch over and over", floor),
        runs=rounds,
        versions=("trl", "transformers", "torch"),
    )
    curve = dict[str, dict[str, list[float]]]()
    for name, seed in itertools.product(("opsin", "naive packing", "TRL"), SEEDS[: 1 if is_quick else None]):
        model = setting.model(seed)
        if name == "TRL":
            seconds, tokens = train_trl(setting, model, long, seed)
        else:
            batches = our_batches(setting, long, naive=name != "opsin", seed=seed)
            seconds, tokens = train_ours(setting, model, batches, long)
        reached = {
            "useful_tokens": tokens,
            "seconds": seconds,
            "held_out_loss": held_out_loss(setting, model),
        }
        for measure, value in reached.items():
            curve.setdefault(name, {}).setdefault(measure, []).append(value)
        print(json.dumps({name: reached}), file=sys.stderr)
    longest = np.sort(setting.useful)
    result["curve"] = curve
    result["lengths"] = {
        "mean": float(longest.mean()),
        "median": float(np.median(longest)),
        "max": int(longest[-1]),
    }
    report(result)


if __name__ == "__main__":
    main()
