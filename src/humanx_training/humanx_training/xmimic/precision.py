"""Matrix products in bfloat16 where the processor has them: imitation learns at nearly twice the speed."""

from __future__ import annotations

import contextlib

import torch

# Of a training's budget, after which products are exact again: rounding is noise that the last, small steps would feel.
EXACT_FROM = 0.8


def has_bfloat16() -> bool:
    """Tell whether this processor multiplies bfloat16 matrices itself; others emulate it, slowly."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get('avx512_bf16') or capabilities.get('amx_bf16') or capabilities.get('bf16'))


def products(spent: float, device: str = 'cpu') -> contextlib.AbstractContextManager:
    """Return the context of a network's forward pass when the share ``spent`` (0 to 1) of the budget is gone.

    Weights, gradients' sums and the optimiser stay in float32.
    """
    return torch.autocast(device, torch.bfloat16, enabled=device == 'cpu' and has_bfloat16() and spent < EXACT_FROM)
