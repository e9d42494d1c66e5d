"""The interface of every simulator: many environments of one model as batched arrays."""

from __future__ import annotations

import abc
import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import mujoco
import numpy as np
import torch

from humanx_description.errors import UserError

PAST_COMMANDS = 4  # control steps whose commands are kept: the longest delay


@dataclass(frozen=True)
class SimSpec:
    """What a simulator reports and what may act on it, apart from the model.

    ``contact_groups`` maps a name to geoms: patterns of geom names (``*_foot*``) or ``body:NAME`` for every geom of a
    body (patterns allowed). ``contact_pairs`` are pairs of group names: contact is decided by which geoms touch, so
    that a hand on the ball is never the ball on the floor. ``drag`` maps a free body to ``k`` of ``F = -k |v| v``
    (N s^2/m^2).
    """

    bodies: tuple[str, ...] = ()
    contact_groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    contact_pairs: tuple[tuple[str, str], ...] = ()
    force_bodies: tuple[str, ...] = ()
    drag: Mapping[str, float] = field(default_factory=dict)


class Simulator(abc.ABC):
    """``num_envs`` copies of one MuJoCo model, stepped together.

    Tensors live on ``device`` and are updated in place by :meth:`set_state` and :meth:`step`: keep no reference to old
    values without copying them. Frames and orders are MuJoCo's (``docs/architecture.md``):

    ========================  ====================================================================================
    ``qpos`` (N, nq)          positions; ``qvel`` (N, nv) velocities
    ``xpos`` (N, B, 3)        origins of ``spec.bodies`` in the world, m
    ``xquat`` (N, B, 4)       their orientations, w first
    ``xvel`` (N, B, 6)        velocity of the origin (m/s), then angular velocity (rad/s), both in world axes
    ``actuator_force``        (N, nu) N m, of the last substep
    ``contact`` (N, P)        bool: the pair touched during the last :meth:`step`
    ``contact_force`` (N, P)  summed normal force of the pair in the last substep, N
    ``finite`` (N,)           bool: False once the physics diverged, until the state is set again
    ``xfrc`` (N, F, 6)        writable: force and torque in the world on ``spec.force_bodies``, held until changed
    ``drag`` (N, D)           writable: drag coefficients of the bodies in ``spec.drag``
    ``delay`` (N,)            writable, int32: substeps before a new ``ctrl`` takes effect, at most PAST_COMMANDS steps'
    ========================  ====================================================================================
    """

    qpos: torch.Tensor
    qvel: torch.Tensor
    xpos: torch.Tensor
    xquat: torch.Tensor
    xvel: torch.Tensor
    actuator_force: torch.Tensor
    contact: torch.Tensor
    contact_force: torch.Tensor
    finite: torch.Tensor
    xfrc: torch.Tensor
    drag: torch.Tensor
    delay: torch.Tensor

    def __init__(self, model: mujoco.MjModel, num_envs: int, spec: SimSpec) -> None:
        """Check that ``spec`` fits ``model``; backends allocate the tensors."""
        if num_envs < 1:
            raise UserError(f'environments: {num_envs} wanted; expected 1 or more.')
        if model.na or model.nmocap:
            raise UserError('model: has activations or mocap bodies; expected a scene of humanx_description.')
        self.model = model
        self.num_envs = num_envs
        self.spec = spec
        self.timestep = float(model.opt.timestep)
        self.body_ids = np.array([_body_id(model, name) for name in spec.bodies], np.int32)
        self.force_ids = np.array([_body_id(model, name) for name in spec.force_bodies], np.int32)
        self.drag_ids = np.array([_free_body_id(model, name) for name in spec.drag], np.int32)
        self.geom_mask, self.pair_mask = contact_masks(model, spec)
        self.body_index = {name: index for index, name in enumerate(spec.bodies)}
        self.pair_index = {pair: index for index, pair in enumerate(spec.contact_pairs)}

    @property
    @abc.abstractmethod
    def device(self) -> torch.device:
        """The device of the tensors."""

    @abc.abstractmethod
    def parameter(self, name: str) -> torch.Tensor:
        """Return the per-environment copy (N, ...) of a field of the model, e.g. ``geom_friction``, to write to.

        The first call of a name makes the field per-environment, filled with the model's values. After changing masses
        or inertias call :meth:`refresh_constants`. Raises :class:`UserError` for a field the backend cannot vary.
        """

    @abc.abstractmethod
    def refresh_constants(self, env_ids: torch.Tensor | None = None) -> None:
        """Recompute what follows from masses and inertias (subtree masses, inverse weights)."""

    @abc.abstractmethod
    def set_state(self, qpos: torch.Tensor, qvel: torch.Tensor, env_ids: torch.Tensor | None = None) -> None:
        """Set ``qpos`` (M, nq), ``qvel`` (M, nv) of environments ``env_ids`` (M,), or of all, and update the rest."""

    @abc.abstractmethod
    def step(self, ctrl: torch.Tensor, substeps: int = 1) -> None:
        """Advance by ``substeps`` time steps with joint position targets ``ctrl`` (N, nu), rad."""

    def close(self) -> None:  # noqa: B027
        """Free threads and memory."""


def command_age(delay: torch.Tensor, substep: int, substeps: int) -> torch.Tensor:
    """Return how many control steps old the command is (N,) that has arrived by a substep: 0 for this step's."""
    behind = (delay - substep).clamp(min=0)
    return torch.div(behind + substeps - 1, substeps, rounding_mode='floor').clamp(max=PAST_COMMANDS).long()


def delayed(wanted: torch.Tensor, past: torch.Tensor, age: torch.Tensor) -> torch.Tensor:
    """Return the commands (N, nu) in effect: ``wanted``, or those of ``past`` (N, PAST_COMMANDS, nu), newest first."""
    old = past[torch.arange(len(past), device=past.device), (age - 1).clamp(min=0)]
    return torch.where((age > 0)[:, None], old, wanted)


def _body_id(model: mujoco.MjModel, name: str) -> int:
    index = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, name)
    if index < 0:
        raise UserError(f'simulator: the model has no body {name!r}.')
    return index


def _free_body_id(model: mujoco.MjModel, name: str) -> int:
    body = _body_id(model, name)
    joint = model.body_jntadr[body]
    if joint < 0 or model.jnt_type[joint] != mujoco.mjtJoint.mjJNT_FREE:
        raise UserError(f'simulator: drag on body {name!r}, which has no free joint.')
    return body


def group_geoms(model: mujoco.MjModel, patterns: Sequence[str]) -> list[int]:
    """Return the geoms that any of the patterns names (see :class:`SimSpec`)."""
    found = []
    for geom in range(model.ngeom):
        name = mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_GEOM, geom) or ''
        body = mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_BODY, model.geom_bodyid[geom]) or ''
        for pattern in patterns:
            wanted, text = (body, pattern[5:]) if pattern.startswith('body:') else (name, pattern)
            if fnmatch.fnmatchcase(wanted, text):
                found.append(geom)
                break
    return found


def contact_masks(model: mujoco.MjModel, spec: SimSpec) -> tuple[np.ndarray, np.ndarray]:
    """Return bit sets: groups of each geom (ngeom,) and the two groups of each pair (P, 2), uint64."""
    names = list(spec.contact_groups)
    if len(names) > 64:
        raise UserError(f'simulator: {len(names)} contact groups; expected at most 64.')
    geom_mask = np.zeros(model.ngeom, np.uint64)
    for bit, name in enumerate(names):
        geoms = group_geoms(model, spec.contact_groups[name])
        if not geoms:
            raise UserError(f'simulator: contact group {name!r} names no geom of the model.')
        geom_mask[geoms] |= np.uint64(1 << bit)
    pair_mask = np.zeros((len(spec.contact_pairs), 2), np.uint64)
    for index, pair in enumerate(spec.contact_pairs):
        for side, name in enumerate(pair):
            if name not in names:
                raise UserError(f'simulator: contact pair {pair} uses {name!r}; expected one of {", ".join(names)}.')
            pair_mask[index, side] = np.uint64(1 << names.index(name))
    return geom_mask, pair_mask
