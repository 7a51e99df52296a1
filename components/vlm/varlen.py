"""Attention over sequences that lie in one row, by their lengths, without FlashAttention.

`attn_implementation = register_varlen()` takes the arguments that `flash_attention_2` takes (`cu_seq_lens_q`
and its like), so that packs without a mask and without padding are built, trained and tested the same way on
a processor and on a GPU; there the name is the only thing that changes.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from components.errors import ConfigError

VARLEN: Final = "opsin_varlen"


def register_varlen() -> str:
    """Make the implementation known to transformers; gives its name."""
    AttentionInterface.register(VARLEN, _forward)
    AttentionMaskInterface.register(VARLEN, _mask)
    return VARLEN


def _forward(
    module: torch.nn.Module,
    query_BHLD: torch.Tensor,
    key_BHLD: torch.Tensor,
    value_BHLD: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    cu_seq_lens_q: torch.Tensor | None = None,
    cu_seq_lens_k: torch.Tensor | None = None,
    max_length_q: int | None = None,
    max_length_k: int | None = None,
    sliding_window: int | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Each sequence by itself, causally or in full as `module` does it; without lengths all is one sequence.

    Vision towers come without lengths: their rows are whole pictures. (Qwen's split their rows by lengths of
    their own before they call this.)
    """
    _assert_within(sliding_window, max_length_q or query_BHLD.shape[2])
    if cu_seq_lens_q is None or cu_seq_lens_k is None:
        return _attend(module, query_BHLD, key_BHLD, value_BHLD, attention_mask, **options), None
    lengths_q, lengths_k = cu_seq_lens_q.diff().tolist(), cu_seq_lens_k.diff().tolist()
    sequences = zip(
        torch.split(query_BHLD, lengths_q, dim=2),
        torch.split(key_BHLD, lengths_k, dim=2),
        torch.split(value_BHLD, lengths_k, dim=2),
        strict=True,
    )
    attended = [_attend(module, query, key, value, None, **options) for query, key, value in sequences]
    return torch.cat(attended, dim=1), None


def _attend(
    module: torch.nn.Module,
    query_BHLD: torch.Tensor,
    key_BHLD: torch.Tensor,
    value_BHLD: torch.Tensor,
    mask: torch.Tensor | None,
    **options: Any,
) -> torch.Tensor:
    attended_BLHD, _ = sdpa_attention_forward(module, query_BHLD, key_BHLD, value_BHLD, mask, **options)
    return attended_BLHD


def _mask(
    *, q_length: int, kv_length: int, attention_mask: torch.Tensor | None = None, **options: Any
) -> torch.Tensor | None:
    """As FlashAttention's, none where nothing is padded: transformers would make one of every pack's
    restarting positions, the square of its length large."""
    if attention_mask is None and q_length == kv_length:
        return None
    mask: torch.Tensor | None = sdpa_mask(
        q_length=q_length, kv_length=kv_length, attention_mask=attention_mask, **options
    )
    return mask


def _assert_within(sliding_window: int | None, longest: int) -> None:
    if sliding_window is not None and sliding_window < longest:
        raise ConfigError(
            f"a language model with a sliding window of {sliding_window} tokens, and a sequence of {longest}",
            where="attention by lengths on a processor",
            fix="use `mask` isolation, or shorter packs; FlashAttention on a GPU knows windows",
        )
