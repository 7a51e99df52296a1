"""A vision tower and a language model of any kind, put together in one of two ways.

`prefix`: the connector's tokens stand in the sequence where the text has image tokens.
`gated_cross_attention`: the text has one image token, and from there on tokens read the image's latents
before some of the layers.

Letters: B sequences, L tokens, R images (tiles), C channels, P patches, E width of the tower, D width of the
language model, K latents or image tokens of an image, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, cast

import torch
from torch import nn
from transformers import (
    AutoModel,
    Cache,
    GenerationMixin,
    PreTrainedConfig,
    PreTrainedModel,
    initialization,
)
from transformers.utils.generic import ModelOutput

from components.vlm.composed.configuration import ComposedConfig
from components.vlm.composed.connectors import (
    GatedBlock,
    GatedConnector,
    MlpConnector,
    Resampler,
    Seen,
)

MAX_LEADING: Final = 8
"""Class and register tokens of a tower."""
SEEN: Final = "seen"
"""The keyword argument that brings the images to the language model's layers."""


@dataclass
class ComposedOutput(ModelOutput):
    """What a forward gives."""

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    last_hidden_state: torch.Tensor | None = None
    past_key_values: Cache | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    image_latents: torch.Tensor | None = None
    image_index: torch.Tensor | None = None


class ComposedPreTrainedModel(PreTrainedModel):
    config: ComposedConfig
    config_class = ComposedConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)  # type: ignore[no-untyped-call]
        if isinstance(module, GatedBlock):
            initialization.zeros_(module.attention_gate)
            initialization.zeros_(module.feed_forward_gate)
        elif isinstance(module, Resampler):
            initialization.normal_(module.latents, std=self.config.initializer_range)


class ComposedModel(ComposedPreTrainedModel):
    """Tower, connector and language model below its head."""

    def __init__(self, config: ComposedConfig) -> None:
        super().__init__(config)
        assert isinstance(config.text_config, PreTrainedConfig)
        self.vision_model: PreTrainedModel = AutoModel.from_config(config.vision_config)
        self.text_model: PreTrainedModel = AutoModel.from_config(config.text_config)
        assert isinstance(config.vision_config, PreTrainedConfig)
        features, width = feature_width(config.vision_config), int(config.text_config.hidden_size)
        self.connector: nn.Module = self._connector(features, width)
        if self.gated:
            for index, layer in enumerate(self._layers()):
                layer.register_forward_pre_hook(
                    cast(Callable[..., Any], partial(self._look, index)), with_kwargs=True
                )
        self.post_init()  # type: ignore[no-untyped-call]

    @property
    def gated(self) -> bool:
        return self.config.architecture == "gated_cross_attention"

    def _connector(self, features: int, width: int) -> nn.Module:
        config = self.config
        if not self.gated:
            return MlpConnector(features, width, config.scale_factor)
        resampler = Resampler(features, width, config.latents, config.resampler_layers, config.cross_heads)
        numbers = range(config.cross_every - 1, len(self._layers()), config.cross_every)
        blocks = {number: GatedBlock(width, config.cross_heads) for number in numbers}
        return GatedConnector(resampler, blocks)

    def _layers(self) -> nn.ModuleList:
        layers = self.text_model.layers
        assert isinstance(layers, nn.ModuleList)
        return layers

    def _look(
        self, number: int, _layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Before a layer: its hidden states look at their image, where there is one.

        A hook on the layer, and not a layer around it: weights keep the language model's own names, adapters
        find them, and activation checkpointing computes the block again together with its layer.
        """
        seen: Seen | None = kwargs.pop(SEEN, None)
        if seen is None:
            return args, kwargs
        connector = cast(GatedConnector, self.connector)
        if args:
            return (connector.before(number, args[0], seen), *args[1:]), kwargs
        return args, kwargs | {"hidden_states": connector.before(number, kwargs["hidden_states"], seen)}

    def train(self, mode: bool = True) -> ComposedModel:
        """As `nn.Module.train`; batch statistics of a convolutional tower stay as they are."""
        super().train(mode)
        for module in self.vision_model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def get_input_embeddings(self) -> nn.Module:
        embeddings: nn.Module = self.text_model.get_input_embeddings()
        return embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.text_model.set_input_embeddings(value)

    def tower(self, pixels_RCHW: torch.Tensor) -> torch.Tensor:
        """Features of the vision tower, (R, P, E): its feature map, without class and register tokens."""
        features = self.vision_model(pixel_values=pixels_RCHW.to(self.vision_model.dtype)).last_hidden_state
        if features.ndim == 4:
            return features.flatten(2).transpose(1, 2)  # type: ignore[no-any-return]
        # At most so many tokens stand before the patches: more would be patches of another grid.
        leading = features.shape[1] - self.config.grid**2
        return features[:, leading if 0 <= leading <= MAX_LEADING else 0 :]  # type: ignore[no-any-return]

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        pixel_attention_mask: torch.Tensor | None = None,
        image_features: torch.Tensor | None = None,
        image_latents: torch.Tensor | None = None,
        image_index: torch.Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> ComposedOutput:
        """
        Args:
            attention_mask: (B, L), or additive (B, 1, L, L), which keeps samples of a pack apart.
            pixel_values: (B, I, C, H, W), images in the order of their tokens.
            pixel_attention_mask: (B, I, H, W), zero in images that pad a batch; without it none does.
            image_features: (R, P, E), what `tower` gave, in their stead.
            image_latents: (R, K, D), what the connector gave, in their stead.
            image_index: (B, L), of `gated_cross_attention`: the image that a token sees, counted over the
                batch; -1 for none. Without it, the last before it in its row.
        """
        if image_latents is None:
            if image_features is None and pixel_values is not None:
                image_features = self.tower(_real_images(pixel_values, pixel_attention_mask))
            if image_features is not None:
                image_latents = self.connector(image_features)
        if self.gated and image_latents is not None:
            if image_index is None:
                assert input_ids is not None, "without ids the tokens' images are not known"
                image_index = count_images(input_ids == self.config.image_token_id)
            kwargs[SEEN] = Seen.of(image_latents, image_index)
        elif image_latents is not None:
            assert input_ids is not None, "without ids the images' places are not known"
            embeds_BLD = self.get_input_embeddings()(input_ids)
            places_BL1 = (input_ids == self.config.image_token_id)[:, :, None]
            inputs_embeds = embeds_BLD.masked_scatter(places_BL1, image_latents.to(embeds_BLD.dtype))
        output = self.text_model(
            input_ids=input_ids if inputs_embeds is None else None,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        return ComposedOutput(
            last_hidden_state=output.last_hidden_state,
            past_key_values=output.past_key_values,
            hidden_states=output.hidden_states,
            attentions=output.attentions,
            image_latents=image_latents,
            image_index=image_index,
        )


class ComposedForConditionalGeneration(ComposedPreTrainedModel, GenerationMixin):
    """The model with its language head."""

    def __init__(self, config: ComposedConfig) -> None:
        super().__init__(config)
        assert isinstance(config.text_config, PreTrainedConfig)
        self.model = ComposedModel(config)
        width, self.vocab_size = int(config.text_config.hidden_size), int(config.text_config.vocab_size)
        self.lm_head = nn.Linear(width, self.vocab_size, bias=config.head_bias)
        embeddings = self.model.get_input_embeddings().weight
        name = next(name for name, each in self.model.named_parameters() if each is embeddings)
        self._tied_weights_keys = {"lm_head.weight": f"model.{name}"}
        self.post_init()  # type: ignore[no-untyped-call]

    def get_input_embeddings(self) -> nn.Module:
        embeddings: nn.Module = self.model.get_input_embeddings()
        return embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.model.set_input_embeddings(value)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        pixel_attention_mask: torch.Tensor | None = None,
        image_features: torch.Tensor | None = None,
        image_latents: torch.Tensor | None = None,
        image_index: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs: Any,
    ) -> ComposedOutput:
        """Arguments as `ComposedModel`'s; with `labels`, the mean loss of those that are not -100."""
        output: ComposedOutput = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            pixel_values=pixel_values,
            pixel_attention_mask=pixel_attention_mask,
            image_features=image_features,
            image_latents=image_latents,
            image_index=image_index,
            use_cache=use_cache,
            **kwargs,
        )
        assert output.last_hidden_state is not None
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        output.logits = self.lm_head(output.last_hidden_state[:, kept])
        if labels is not None:
            output.loss = self.loss_function(
                logits=output.logits, labels=labels, vocab_size=self.vocab_size, **kwargs
            )
        return output

    def _update_model_kwargs_for_generation(
        self, outputs: ModelOutput, model_kwargs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        """The next token sees what the last one saw: latents are made once, features never again."""
        model_kwargs = super()._update_model_kwargs_for_generation(outputs, model_kwargs, *args, **kwargs)
        for name in ("pixel_values", "pixel_attention_mask", "image_features"):
            model_kwargs.pop(name, None)
        assert isinstance(outputs, ComposedOutput)
        cached = model_kwargs.get("use_cache", True)
        if outputs.image_latents is not None and (self.model.gated or not cached):
            model_kwargs["image_latents"] = outputs.image_latents
        if outputs.image_index is not None:
            # Without a cache the whole sequence is read again, and its images are counted again.
            model_kwargs["image_index"] = outputs.image_index[:, -1:] if cached else None
        return model_kwargs


def feature_width(vision: PreTrainedConfig) -> int:
    """Width of a tower's last hidden states."""
    widths = getattr(vision, "hidden_sizes", None)
    return int(widths[-1] if widths else getattr(vision, "hidden_dim", None) or vision.hidden_size)


def count_images(image_BL: torch.Tensor) -> torch.Tensor:
    """For each token the image at or before it in its row, counted over all rows; -1 where there is none."""
    count_BL = image_BL.long().cumsum(dim=1)
    total_B = count_BL[:, -1]
    before_B1 = (total_B.cumsum(0) - total_B)[:, None]
    return torch.where(count_BL > 0, before_B1 + count_BL - 1, -1)


def _real_images(pixel_values: torch.Tensor, pixel_attention_mask: torch.Tensor | None) -> torch.Tensor:
    """(B, I, C, H, W) → (R, C, H, W), without what pads a batch."""
    pixels = pixel_values.flatten(0, 1)
    if pixel_attention_mask is None:
        return pixels
    return pixels[pixel_attention_mask.flatten(0, 1).flatten(1).any(dim=1)]
