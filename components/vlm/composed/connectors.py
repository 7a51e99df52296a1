"""What stands between a vision tower and a language model.

`MlpConnector`: pixel shuffle and two layers (LLaVA, arXiv:2310.03744). `GatedConnector`: a perceiver
resampler and tanh-gated cross-attention blocks (Flamingo, arXiv:2204.14198).

Letters: R images, P patches, E width of the tower, D width of the language model, K latents of an image,
H heads, F width of a head; B sequences, L tokens; N tokens that see an image, in G groups of at most T.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import nn
from torch.nn import functional

HEAD_WIDTH: Final = 64
GROUP: Final = 64
"""Tokens of one image that attend together: a long text is several groups, so that a short one beside it is
not padded to its length."""
WIDER: Final = 4


class MlpConnector(nn.Module):
    """Features (R, P, E) → image tokens (R, P / scale_factor², D)."""

    def __init__(self, features: int, width: int, scale_factor: int) -> None:
        super().__init__()
        self.scale_factor = scale_factor
        self.up = nn.Linear(features * scale_factor**2, width)
        self.down = nn.Linear(width, width)

    def forward(self, features_RPE: torch.Tensor) -> torch.Tensor:
        down: torch.Tensor = self.down(functional.gelu(self.up(self._shuffled(features_RPE))))
        return down

    def _shuffled(self, features_RPE: torch.Tensor) -> torch.Tensor:
        """Squares of patches side by side: fewer tokens, and nothing lost."""
        images, patches, width = features_RPE.shape
        scale, side = self.scale_factor, round(patches**0.5)
        squares = features_RPE.view(images, side // scale, scale, side // scale, scale, width)
        return squares.permute(0, 1, 3, 2, 4, 5).reshape(images, patches // scale**2, width * scale**2)


@dataclass(frozen=True)
class Seen:
    """Which tokens see which image's latents, grouped for attention without a mask."""

    latents_RKD: torch.Tensor
    token_N: torch.Tensor
    """Place of a token among all (B · L)."""
    group_N: torch.Tensor
    slot_N: torch.Tensor
    """Place in the group."""
    image_G: torch.Tensor
    slots: int

    @classmethod
    def of(cls, latents_RKD: torch.Tensor, image_index_BL: torch.Tensor) -> Seen:
        """
        Args:
            image_index_BL: Row of `latents_RKD` that a token sees; -1 where it sees none.
        """
        image_T = image_index_BL.reshape(-1)
        token_N = (image_T >= 0).nonzero()[:, 0]
        image_N, order_N = torch.sort(image_T[token_N], stable=True)
        count_R = torch.bincount(image_N, minlength=len(latents_RKD))
        rank_N = torch.arange(len(image_N), device=image_N.device) - (count_R.cumsum(0) - count_R)[image_N]
        slots = max(min(GROUP, int(count_R.max()) if len(count_R) else 1), 1)
        groups_R = -(-count_R // slots)
        first_R = groups_R.cumsum(0) - groups_R
        return cls(
            latents_RKD,
            token_N[order_N],
            first_R[image_N] + rank_N // slots,
            rank_N % slots,
            torch.arange(len(latents_RKD), device=image_N.device).repeat_interleave(groups_R),
            slots,
        )


class Attention(nn.Module):
    """Attention of some vectors to others, `heads` of 64."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        inner = heads * HEAD_WIDTH
        self.heads = heads
        self.query = nn.Linear(width, inner, bias=False)
        self.key_value = nn.Linear(width, 2 * inner, bias=False)
        self.out = nn.Linear(inner, width, bias=False)

    def forward(self, asking_GTD: torch.Tensor, key_value_2GHKF: torch.Tensor) -> torch.Tensor:
        query_GHTF = self._by_head(self.query(asking_GTD))
        key_GHKF, value_GHKF = key_value_2GHKF
        dtype = query_GHTF.dtype
        if query_GHTF.device.type == "cpu" and dtype != torch.float32:
            # Autocast on a processor: its attention is slower in bfloat16.
            query_GHTF, key_GHKF, value_GHKF = (each.float() for each in (query_GHTF, key_GHKF, value_GHKF))
        with torch.autocast(query_GHTF.device.type, enabled=False):
            attended_GHTF = functional.scaled_dot_product_attention(query_GHTF, key_GHKF, value_GHKF)
        out: torch.Tensor = self.out(attended_GHTF.transpose(1, 2).flatten(2).to(dtype))
        return out

    def keys_values(self, asked_GKD: torch.Tensor) -> torch.Tensor:
        """Both, for each head: (2, G, H, K, F)."""
        return torch.stack([self._by_head(each) for each in self.key_value(asked_GKD).chunk(2, dim=-1)])

    def _by_head(self, x_GTD: torch.Tensor) -> torch.Tensor:
        return x_GTD.view(*x_GTD.shape[:2], self.heads, HEAD_WIDTH).transpose(1, 2)


def feed_forward(width: int) -> nn.Sequential:
    """Normalized, four times as wide between."""
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Linear(width, WIDER * width, bias=False),
        nn.GELU(),
        nn.Linear(WIDER * width, width, bias=False),
    )


class ResamplerLayer(nn.Module):
    """Latents attend to the patches and to themselves."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_patches, self.norm_latents = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.feed_forward = feed_forward(width)

    def forward(self, latents_RKD: torch.Tensor, patches_RPD: torch.Tensor) -> torch.Tensor:
        asking = self.norm_latents(latents_RKD)
        asked = torch.cat([self.norm_patches(patches_RPD), asking], dim=1)
        latents_RKD = latents_RKD + self.attention(asking, self.attention.keys_values(asked))
        fed: torch.Tensor = self.feed_forward(latents_RKD)
        return latents_RKD + fed


class Resampler(nn.Module):
    """Features (R, P, E) → latents (R, K, D): as many, however many patches.

    The features are brought to the language model's width first: a convolutional tower's are twice as wide,
    and the layers would be four times as large.
    """

    def __init__(self, features: int, width: int, latents: int, layers: int, heads: int) -> None:
        super().__init__()
        self.project = nn.Linear(features, width)
        self.latents = nn.Parameter(torch.empty(latents, width))
        self.layers = nn.ModuleList(ResamplerLayer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, features_RPE: torch.Tensor) -> torch.Tensor:
        patches_RPD = self.project(features_RPE)
        latents_RKD = self.latents.expand(len(patches_RPD), -1, -1)
        for layer in self.layers:
            latents_RKD = layer(latents_RKD, patches_RPD)
        normed: torch.Tensor = self.norm(latents_RKD)
        return normed


class GatedBlock(nn.Module):
    """Cross-attention and feed-forward behind gates that start closed: tanh(0) = 0.

    A token that sees no image passes untouched, feed-forward included (as Llama 3.2 Vision has it, arXiv
    2407.21783, and unlike Flamingo): what a frozen language model makes of text alone never changes.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.attention_gate = nn.Parameter(torch.empty(1))
        self.feed_forward = feed_forward(width)
        self.feed_forward_gate = nn.Parameter(torch.empty(1))

    def forward(self, hidden_BLD: torch.Tensor, seen: Seen) -> torch.Tensor:
        hidden_TD = hidden_BLD.reshape(-1, hidden_BLD.shape[-1])
        token_ND = hidden_TD[seen.token_N]
        attended_ND = self._attend(self.norm(token_ND), seen)
        token_ND = token_ND + self.attention_gate.tanh() * attended_ND
        token_ND = token_ND + self.feed_forward_gate.tanh() * self.feed_forward(token_ND)
        return hidden_TD.index_copy(0, seen.token_N, token_ND.to(hidden_TD.dtype)).view_as(hidden_BLD)

    def _attend(self, asking_ND: torch.Tensor, seen: Seen) -> torch.Tensor:
        groups = len(seen.image_G)
        asking_GTD = asking_ND.new_zeros(groups, seen.slots, asking_ND.shape[-1])
        asking_GTD = asking_GTD.index_put((seen.group_N, seen.slot_N), asking_ND)
        key_value_2RHKF = self.attention.keys_values(seen.latents_RKD)
        attended_GTD: torch.Tensor = self.attention(asking_GTD, key_value_2RHKF[:, seen.image_G])
        return attended_GTD[seen.group_N, seen.slot_N]


class GatedConnector(nn.Module):
    """The resampler, and the gated blocks for some of the language model's layers: all that is new."""

    def __init__(self, resampler: Resampler, blocks: dict[int, GatedBlock]) -> None:
        super().__init__()
        self.resampler = resampler
        self.blocks = nn.ModuleDict({str(layer): block for layer, block in blocks.items()})

    def forward(self, features_RPE: torch.Tensor) -> torch.Tensor:
        latents: torch.Tensor = self.resampler(features_RPE)
        return latents

    def before(self, layer: int, hidden_BLD: torch.Tensor, seen: Seen) -> torch.Tensor:
        """What the language model's layer reads."""
        name = str(layer)
        if name not in self.blocks:
            return hidden_BLD
        read: torch.Tensor = self.blocks[name](hidden_BLD, seen)
        return read
