"""SFTTrainer with a teacher beside the labels: its logits, and what its connector gives.

Letters: B packs, L tokens, D width, K labelled tokens, V vocabulary.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from trl.trainer.sft_trainer import SFTTrainer

from components.config import DistillWeights, SftConfig
from components.distillation import (
    Teacher,
    assert_reads_alike,
    assert_writes_alike,
    compare_widths,
    cosine_distance,
    load_teacher,
    soft_losses,
    vectors,
    watching,
)
from components.loader import IGNORED
from components.vlm.families import Family

SECTION: Final = "sft.distill"


def prepare_teacher(config: SftConfig, model: Any, family: Family) -> Teacher | None:
    """Load the teacher and hold it against the student; None where no term has one.

    Raises:
        ConfigError: the teacher reads, writes or sees otherwise than a term needs.
    """
    if config.distill is None or not config.distill.weights.taught:
        return None
    downloads, weights = config.execution.downloads, config.distill.weights
    teacher = load_teacher(config.distill, downloads, SECTION, torch.device("cpu"))
    assert_reads_alike(teacher, family)
    if weights.logits:
        assert_writes_alike(teacher, family)
    for own, taught in compare_widths(
        teacher, model, family, ["connector"] * bool(weights.connector)
    ).values():
        if own != taught:
            raise teacher.refuse(
                f"the teacher's connector gives vectors of {taught}, the student's of {own}: sft has no map",
                "distill the connector in pretrain, or take a teacher of the student's width",
            )
    return teacher


class DistillingTrainer(SFTTrainer):
    """What is logged as `loss` stays the cross-entropy of the labels; `objective` is what is minimized."""

    def __init__(
        self,
        *,
        family: Family,
        teacher: Teacher,
        weights: DistillWeights,
        temperature: float,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self._family, self._teacher = family, teacher
        self._weights, self._temperature = weights, temperature
        teacher.model.to(self.args.device)  # type: ignore[arg-type]  # transformers types `to` as a bound method

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        assert not return_outputs, "nothing is evaluated here"
        student, weights = self.accelerator.unwrap_model(model).get_base_model(), self._weights
        body = _Body(student.model)
        connector = self._family.parts(student)["connector"][0]
        with watching(connector) as seen, body:
            hard = super().compute_loss(  # type: ignore[no-untyped-call]
                model, inputs, num_items_in_batch=num_items_in_batch
            )
        labelled_BL = inputs["labels"][:, 1:] != IGNORED
        with torch.no_grad(), watching(self._teacher.connector) as shown:
            asked = {name: each for name, each in inputs.items() if name != "labels"}
            taught_BLD = self._teacher.model.model(**asked).last_hidden_state
            taught_KV = self._teacher.model.lm_head(taught_BLD[:, :-1][labelled_BL])
        terms: dict[str, torch.Tensor] = {}
        if weights.logits:
            logits_KV = student.lm_head(body.hidden_BLD[:, :-1][labelled_BL])
            terms["logits"] = soft_losses(logits_KV, taught_KV, self._temperature).mean()
        if weights.connector and seen.connector is not None:
            terms["connector"] = cosine_distance(vectors(seen, "connector"), vectors(shown, "connector"))
        objective = hard * weights.hard
        for name, term in terms.items():
            objective = objective + term * getattr(weights, name)
        self._report(
            {"loss": hard, "objective": objective} | {f"distill/{name}": each for name, each in terms.items()}
        )
        return objective

    def _report(self, values: dict[str, torch.Tensor]) -> None:
        """TRL logs the mean of each since the last logged step, over what the trainer says."""
        for name, value in values.items():
            self._metrics["train"][name].append(float(value.detach()))


class _Body:
    """Keeps the last hidden states of a model below its head while it runs."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._model = model
        self.hidden_BLD = torch.empty(0)

    def __enter__(self) -> _Body:
        self._handle = self._model.register_forward_hook(self._keep)
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.remove()

    def _keep(self, module: torch.nn.Module, arguments: Any, output: Any) -> None:
        self.hidden_BLD = output.last_hidden_state
