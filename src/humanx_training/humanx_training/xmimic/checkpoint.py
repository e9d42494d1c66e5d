"""Checkpoints: plain tensors, numbers and strings (no pickled code), written whole or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch

from humanx_description.errors import UserError
from humanx_training.xmimic.config import TrainConfig

FORMAT = 1
_KEYS = ('format', 'kind', 'skill', 'mode', 'config', 'layout', 'privileged_size', 'clips', 'iteration', 'algorithm')


def save(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        torch.save({'format': FORMAT, **state}, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load(path: Path, kind: str | None = None) -> dict[str, Any]:
    """Read a checkpoint; raises :class:`UserError` for another file, format or kind ('teacher', 'student')."""
    if not path.is_file():
        raise UserError(f'{path}: is not a file; expected a checkpoint (.pt).')
    try:
        state = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is not its own
        raise UserError(f'{path}: cannot be read as a checkpoint ({str(error).splitlines()[0][:80]}).') from None
    missing = [k for k in _KEYS if not isinstance(state, dict) or k not in state]
    if missing:
        raise UserError(f'{path}: lacks {missing[0]!r}; expected a checkpoint of humanx train.')
    if state['format'] != FORMAT:
        raise UserError(f'{path}: has format {state["format"]}; expected {FORMAT}.')
    if kind is not None and state['kind'] != kind:
        raise UserError(f'{path}: is a {state["kind"]}; expected a {kind}.')
    return state


def config_of(state: dict[str, Any], path: Path) -> TrainConfig:
    """Return the configuration a checkpoint was trained with."""
    return TrainConfig.from_dict(json.loads(state['config']), f'{path}: config')


def config_json(config: TrainConfig) -> str:
    """Return a configuration as JSON."""
    return json.dumps(dataclasses.asdict(config))


def digest(paths: list[Path]) -> list[str]:
    """Return ``name sha256`` of clip files, so that a checkpoint says what it was trained on."""
    return [f'{p.name} {hashlib.sha256(p.read_bytes()).hexdigest()}' for p in paths]


def check_sizes(state: dict[str, Any], path: Path, *, layout: str, privileged_size: int, kind: str) -> None:
    """Raise :class:`UserError` where a checkpoint's observations are not those of the environment."""
    if kind == 'student' and state['layout'] != layout:
        raise UserError(f'{path}: sees another observation layout than this skill and mode give; train it anew.')
    if state['privileged_size'] != privileged_size:
        raise UserError(
            f'{path}: sees {state["privileged_size"]} privileged numbers, these clips and settings give '
            f'{privileged_size}; expected equal objects, contact bodies and env.future.'
        )


def check_network(state: dict[str, Any], path: Path, name: str, model: torch.nn.Module) -> None:
    """Raise :class:`UserError` where the checkpoint's ``name`` ('actor', 'critic') is not of the model's size."""
    stored = {k: tuple(v.shape) for k, v in state['algorithm'][f'{name}_state_dict'].items()}
    wanted = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    if stored != wanted:
        hidden = [shape[0] for key, shape in stored.items() if len(shape) == 2 and key.startswith('mlp')][:-1]
        raise UserError(
            f'{path}: its {name} has hidden layers {hidden}, not those of these settings; expected an equal ppo.hidden.'
        )
