"""From a trained student to the file that the robot runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rsl_rl.models import MLPModel
from tensordict import TensorDict

from humanx_description.errors import UserError
from humanx_policy.export import Mlp, write_policy
from humanx_policy.metadata import PolicyMetadata
from humanx_policy.observation import ObservationLayout
from humanx_training.xmimic import checkpoint
from humanx_training.xmimic.batch_policy import OnnxPolicy
from humanx_training.xmimic.ppo import make_model

MAX_DIFFERENCE = 1e-5


def to_mlp(model: MLPModel, activation: str = 'elu') -> Mlp:
    """Return an rsl-rl actor as the perceptron of a policy file, its normaliser included."""
    layers = [
        (layer.weight.detach().cpu().numpy(), layer.bias.detach().cpu().numpy())
        for layer in model.mlp
        if isinstance(layer, torch.nn.Linear)
    ]
    normaliser = model.obs_normalizer
    mean = normaliser._mean[0].cpu().numpy()
    std = (normaliser._std[0] + normaliser.eps).cpu().numpy()
    return Mlp(layers, activation=activation, obs_mean=mean, obs_std=std)  # type: ignore[arg-type]


def export_model(
    model: MLPModel, path: Path, *, skill: str, mode: str, layout: ObservationLayout, object_roles: tuple[str, ...],
    activation: str = 'elu', provenance: dict[str, Any] | None = None, measured: dict[str, Any] | None = None,
) -> float:
    """Write a policy file and return its largest difference from torch over plausible observations.

    Raises :class:`UserError` where the difference is not below 1e-5 of the actions' size.
    """
    metadata = PolicyMetadata(
        skill, mode, layout, object_roles, provenance=provenance or {}, measured=measured or {}  # type: ignore[arg-type]
    )
    # Beside it first: an earlier file stays until the new one is known to compute the same.
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.onnx')
    try:
        write_policy(temporary, to_mlp(model, activation), metadata)
        difference = parity(model, temporary)
        if not difference <= MAX_DIFFERENCE:
            raise UserError(
                f'{path}: would differ from the network by {difference:.1e}; expected at most {MAX_DIFFERENCE:.0e}.'
            )
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return difference


@torch.no_grad()
def parity(model: MLPModel, path: Path, samples: int = 256) -> float:
    """Return the largest |ONNX - torch| / max(1, |torch|) over observations drawn around the normaliser's mean."""
    normaliser = model.obs_normalizer
    noise = torch.randn(samples, model.obs_dim, generator=torch.Generator().manual_seed(0))
    obs = normaliser._mean.cpu() + normaliser._std.cpu() * noise
    group = model.obs_groups[0]
    wanted = model(TensorDict({group: obs.to(normaliser._mean.device)}, batch_size=[samples])).cpu().numpy()
    got = OnnxPolicy(path).act(obs.numpy())
    return float(np.max(np.abs(got - wanted) / np.maximum(1.0, np.abs(wanted))))


def export_checkpoint(
    source: Path, target: Path, *, object_roles: tuple[str, ...] | None = None, measured: dict[str, Any] | None = None
) -> float:
    """Export a student's checkpoint; returns the difference from torch. Raises :class:`UserError`."""
    state = checkpoint.load(source, 'student')
    config = checkpoint.config_of(state, source)
    layout = ObservationLayout.from_json(state['layout'])
    obs = TensorDict({'policy': torch.zeros(1, layout.size)}, batch_size=[1])
    model = make_model(obs, 'policy', 29, config.ppo, actor=True)
    model.load_state_dict(state['algorithm']['actor_state_dict'])
    roles = object_roles
    if roles is None:
        roles = tuple(state.get('object_roles', ()))
    provenance = {
        'trained_by': 'humanx train student', 'checkpoint': source.name, 'iteration': state['iteration'],
        'clips': list(state['clips']), 'seed': config.seed,
    }
    return export_model(
        model.eval(), target, skill=state['skill'], mode=state['mode'], layout=layout, object_roles=roles,
        activation=config.ppo.activation, provenance=provenance, measured=measured,
    )
