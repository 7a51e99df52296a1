"""Attention by lengths: each sequence by itself, and what it cannot do is an error."""

from __future__ import annotations

import pytest
import torch
from tiny_families import tiny_family
from transformers import AttentionInterface, AttentionMaskInterface

from components.errors import ConfigError
from components.vlm.varlen import register_varlen

LENGTHS = (5, 1, 7)


class Attention(torch.nn.Module):
    """What an attention function looks at of the layer that calls it."""

    is_causal, num_key_value_groups = True, 2


def attend(**options: object) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn((1, heads, sum(LENGTHS), 8), generator=random) for heads in (4, 2, 2))
    function = AttentionInterface()[register_varlen()]
    attended: torch.Tensor = function(Attention(), query, key, value, None, scaling=0.5, **options)[0]
    return attended


def ends_of(*lengths: int) -> dict[str, object]:
    ends = torch.tensor([0, *lengths]).cumsum(0).int()
    longest = max(lengths)
    return {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": longest, "max_length_k": longest}


def test_varlen_of_sequences_attends_within_each() -> None:
    isolated, whole = attend(**ends_of(*LENGTHS)), attend(**ends_of(sum(LENGTHS)))
    assert isolated.shape == (1, sum(LENGTHS), 4, 8)
    torch.testing.assert_close(isolated[:, : LENGTHS[0]], whole[:, : LENGTHS[0]])
    assert not torch.allclose(isolated[:, LENGTHS[0] :], whole[:, LENGTHS[0] :])
    torch.testing.assert_close(attend(), whole)


def test_varlen_of_a_tower_attends_in_full() -> None:
    causal, full = attend(), attend(is_causal=False)
    torch.testing.assert_close(causal[:, -1], full[:, -1])
    assert not torch.allclose(causal[:, 0], full[:, 0])


def test_varlen_with_a_window_shorter_than_a_sequence_is_refused() -> None:
    attend(sliding_window=7, **ends_of(*LENGTHS))
    with pytest.raises(ConfigError, match="sliding window of 6"):
        attend(sliding_window=6, **ends_of(*LENGTHS))


def test_varlen_makes_a_mask_of_padding_and_none_of_packs() -> None:
    make = AttentionMaskInterface()[register_varlen()]
    shape = {"batch_size": 1, "q_length": 4, "kv_length": 4}
    assert make(**shape) is None
    padded = make(**shape, attention_mask=torch.tensor([[False, True, True, True]]))
    assert padded.shape == (1, 1, 4, 4) and not padded[..., 0].any()


def test_varlen_generates_what_sdpa_generates() -> None:
    family, model = tiny_family("qwen3_vl")
    inputs = family.tokenizer(["say it", "say"], padding=True, padding_side="left", return_tensors="pt")
    inputs.pop("token_type_ids", None)
    settings = {"max_new_tokens": 5, "do_sample": False}
    expected = model.generate(**inputs, **settings)
    model.set_attn_implementation(register_varlen())
    assert torch.equal(model.generate(**inputs, **settings), expected)
