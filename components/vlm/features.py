"""Models whose forward takes features of a frozen vision tower in the pictures' stead (`image_features`)."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn
from transformers import Idefics3ForConditionalGeneration, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

FEATURES = "image_features"


def can_take_features(model: PreTrainedModel) -> bool:
    """Whether `take_features` can make the model take them."""
    return isinstance(model, Idefics3ForConditionalGeneration) or _takes_them(model)


def take_features(model: PreTrainedModel) -> None:
    """Let the model's forward take `image_features`, (R, P, D) as its tower gives them.

    Composed models do. An Idefics3 is given what its connector makes of them each time, so that the
    connector is trained: by a hook that any wrapper around the model leaves in place.
    """
    if not _takes_them(model):
        assert isinstance(model, Idefics3ForConditionalGeneration), "ask can_take_features before"
        model.register_forward_pre_hook(_connect, with_kwargs=True)


def _takes_them(model: PreTrainedModel) -> bool:
    return FEATURES in inspect.signature(model.forward).parameters


def _connect(
    model: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    features_RPD = options.pop(FEATURES, None)
    if features_RPD is not None:
        connected = model.model.connector(features_RPD)  # type: ignore[union-attr,operator]
        options["mm_encoder_outputs"] = {"image": BaseModelOutputWithPooling(pooler_output=connected)}
    return arguments, options
