"""An attention that stays in fp32 under autocast.

On processors, PyTorch's scaled dot-product attention is slower in bfloat16 than in fp32 (its backward took
1.7 times as long on two cores of an EPYC with AVX-512), while matrix multiplications are up to four times as
fast. So mixed precision on a processor multiplies in bfloat16 and attends in fp32.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

SDPA_FP32: Final = "sdpa_fp32"


def register_sdpa_fp32() -> str:
    """Make the implementation known to transformers; gives its name."""
    AttentionInterface.register(SDPA_FP32, _forward)
    AttentionMaskInterface.register(SDPA_FP32, sdpa_mask)
    return SDPA_FP32


def _forward(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    with torch.autocast(query.device.type, enabled=False):
        attended, _ = sdpa_attention_forward(
            module, query.float(), key.float(), value.float(), attention_mask, **options
        )
    return attended, None
