"""Torch files from strangers: tensors and plain containers only, never a pickle that could run code."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from humanx_description.errors import UserError


def load_torch(path: Path) -> Any:
    """Return what a torch file holds, on the CPU; refuse a file that needs arbitrary unpickling."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f'{path}: does not exist; expected a torch file (.pt).')
    if path.stat().st_size == 0:
        raise UserError(f'{path}: is empty; expected a torch file (.pt).')
    import torch

    try:
        return torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        if 'weights_only' in str(error).lower() or 'unsupported' in str(error).lower():
            raise UserError(f'{path}: wants pickle, which could run code; expected plain tensors.') from None
        raise UserError(f'{path}: is not a readable torch file; expected plain tensors.') from None
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, AttributeError, TypeError):
        raise UserError(f'{path}: is not a readable torch file; expected plain tensors.') from None
