"""What a policy sees, defined once for training and deployment.

The functions are pure, take batches ``(N, ...)`` and work on numpy arrays and torch tensors alike.
Quaternions are ``(w, x, y, z)``; suffixes ``_w`` world, ``_b`` base (pelvis) frame, ``_h`` heading
frame (origin at the pelvis, z up, x along the pelvis' yaw).

A tick of either side is::

    terms = proprioception(...)                       # and, in MoCap mode,
    terms |= object_observation(...)
    history.push(terms)
    vector = history.vector()                         # (N, layout.size) float32

The actor's terms follow the appendix of the HumanX paper (starting figures in the public release:
494 numbers in NEP mode): base angular velocity, projected gravity, joint position and velocity,
last action, PD error, and in MoCap mode the object. No phase, no reference.
"""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

# numpy array or torch tensor; torch is never imported here.
Array = Any

HISTORY = (0, 1, 2, 3, 4)
# Dense enough for a velocity from two neighbouring frames, long enough (0.32 s) that a few frames
# before a loss of tracking remain in sight: the longest loss of the training is 10 frames.
OBJECT_HISTORY = (0, 1, 2, 3, 4, 8, 12, 16, 24, 32)
MAX_LAG = 1000
MAX_OBJECT_DISTANCE = 6.0  # m from the pelvis


def _namespace(array: Array) -> Any:
    """Return the module, numpy or torch, that ``array`` belongs to."""
    torch = sys.modules.get('torch')
    return torch if torch is not None and isinstance(array, torch.Tensor) else np


def quat_rotate_inverse(quat: Array, vec: Array) -> Array:
    """Rotate world vectors into the frame of ``quat``: ``R(quat)^T vec``.

    ``quat`` (N, 4) unit, w first; ``vec`` (N, 3). Returns (N, 3).
    """
    x, y, z = vec[..., 0], vec[..., 1], vec[..., 2]
    w, a, b, c = quat[..., 0], quat[..., 1], quat[..., 2], quat[..., 3]
    # With u the vector part: t = 2 (v x u), v' = v + w t + t x u.
    tx, ty, tz = 2 * (y * c - z * b), 2 * (z * a - x * c), 2 * (x * b - y * a)
    return _namespace(quat).stack(
        [
            x + w * tx + ty * c - tz * b,
            y + w * ty + tz * a - tx * c,
            z + w * tz + tx * b - ty * a,
        ],
        -1,
    )


def projected_gravity(quat: Array) -> Array:
    """Return gravity's direction in the base frame, ``R(quat)^T (0, 0, -1)``: (N, 4) to (N, 3)."""
    w, x, y, z = quat[..., 0], quat[..., 1], quat[..., 2], quat[..., 3]
    return _namespace(quat).stack([2 * (w * y - x * z), -2 * (w * x + y * z), 2 * (x * x + y * y) - 1], -1)


def yaw(quat: Array) -> Array:
    """Return the heading of ``quat``, its x axis' angle about z, in rad: (N, 4) to (N,)."""
    xp = _namespace(quat)
    w, x, y, z = quat[..., 0], quat[..., 1], quat[..., 2], quat[..., 3]
    return xp.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def to_heading_frame(root_pos: Array, root_quat: Array, point_w: Array) -> Array:
    """Return world points in the heading frame of the pelvis: ``R_z(yaw)^T (point - root_pos)``.

    ``root_pos`` (N, 3) m and ``root_quat`` (N, 4) of the ``pelvis`` body origin; ``point_w`` (N, K,
    3) m. Returns (N, K, 3) m.
    """
    xp = _namespace(root_quat)
    heading = yaw(root_quat)[..., None]
    cos, sin = xp.cos(heading), xp.sin(heading)
    delta = point_w - root_pos[..., None, :]
    dx, dy = delta[..., 0], delta[..., 1]
    return xp.stack([cos * dx + sin * dy, cos * dy - sin * dx, delta[..., 2]], -1)


def proprioception(
    *,
    base_ang_vel: Array,
    root_quat: Array,
    joint_pos: Array,
    joint_vel: Array,
    last_action: Array,
    default_joint_pos: Array,
    action_scale: Array,
) -> dict[str, Array]:
    """Return the raw (unscaled) terms of the robot's own state, for
    :meth:`ObservationHistory.push`.

    ``base_ang_vel`` (N, 3) rad/s in the pelvis frame (its gyroscope), ``root_quat`` (N, 4) of the
    pelvis, ``joint_pos`` (N, J) rad, ``joint_vel`` (N, J) rad/s, ``last_action`` (N, J): the
    network's output one tick ago as it came, zero on the first tick of an episode (the robot then
    holds its default pose). ``default_joint_pos`` and ``action_scale`` (J,) rad.

    The PD error is last target minus position with the target before any clamp, ``q_default + scale
    * last_action``.
    """
    relative = joint_pos - default_joint_pos
    return {
        'base_ang_vel': base_ang_vel,
        'projected_gravity': projected_gravity(root_quat),
        'joint_pos': relative,
        'joint_vel': joint_vel,
        'last_action': last_action,
        'pd_error': action_scale * last_action - relative,
    }


def object_observation(*, root_pos: Array, root_quat: Array, object_pos: Array, tracked: Array) -> dict[str, Array]:
    """Return the raw terms of K objects; an object that is not tracked is zero together with its
    flag, one farther away than ``MAX_OBJECT_DISTANCE`` is seen at that distance in its direction:
    what leaves the room must not lead the network to where it has never been.

    ``root_pos`` (N, 3) m and ``root_quat`` (N, 4) of the pelvis as the motion capture sees it,
    ``object_pos`` (N, K, 3) m world, ``tracked`` (N, K) bool or 0/1. Returns ``object_pos`` (N, 3K)
    m in the heading frame, objects one after the other in the order of the policy's
    ``object_roles``, and ``object_tracked`` (N, K).
    """
    position_h = to_heading_frame(root_pos, root_quat, object_pos)
    xp = _namespace(position_h)
    seen = tracked != 0
    distance = (position_h * position_h).sum(-1)[..., None] ** 0.5
    far = distance > MAX_OBJECT_DISTANCE
    nearer = position_h * (MAX_OBJECT_DISTANCE / xp.where(far, distance, xp.ones_like(distance)))
    position_h = xp.where(far, nearer, position_h)
    # `where`, not a product: a position that was never seen may be NaN.
    masked = xp.where(seen[..., None], position_h, xp.zeros_like(position_h))
    flag = seen.astype(np.float32) if xp is np else seen.to(position_h.dtype)
    return {
        'object_pos': masked.reshape(masked.shape[0], -1),
        'object_tracked': flag,
    }


def joint_targets(action: Array, default_joint_pos: Array, action_scale: Array) -> Array:
    """Return the targets ``q_default + scale * action`` in rad, (N, J), before any clamp."""
    return default_joint_pos + action_scale * action


@dataclass(frozen=True)
class TermSpec:
    """One observation term: ``size`` numbers, each times ``scale``, once for each lag in
    ``history``.

    ``history`` holds lags in control ticks; 0 is now. The lags appear in the vector in the order
    given here.
    """

    name: str
    size: int
    scale: float = 1.0
    history: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f'name is {self.name!r}; expected a non-empty string')
        where = f'term {self.name!r}'
        if not _is_int(self.size) or self.size < 1:
            raise ValueError(f'{where}: size is {self.size!r}; expected a positive integer')
        if isinstance(self.scale, bool) or not isinstance(self.scale, int | float):
            raise ValueError(f'{where}: scale is {self.scale!r}; expected a number')
        if not math.isfinite(self.scale) or self.scale == 0:
            raise ValueError(f'{where}: scale is {self.scale}; expected a finite number other than 0')
        if not isinstance(self.history, list | tuple) or not self.history:
            raise ValueError(f'{where}: history is {self.history!r}; expected a list of lags')
        if not all(_is_int(lag) and 0 <= lag <= MAX_LAG for lag in self.history):
            raise ValueError(
                f'{where}: history is {list(self.history)}; expected integers from 0 to {MAX_LAG} control ticks'
            )
        if len(set(self.history)) != len(self.history):
            raise ValueError(f'{where}: history {list(self.history)} names a lag twice')
        object.__setattr__(self, 'size', int(self.size))
        object.__setattr__(self, 'scale', float(self.scale))
        object.__setattr__(self, 'history', tuple(int(lag) for lag in self.history))

    @property
    def width(self) -> int:
        """Return how many numbers of the vector this term fills."""
        return self.size * len(self.history)


def _is_int(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


@dataclass(frozen=True)
class ObservationLayout:
    """The terms of an observation in order, and where each lies in the vector."""

    terms: tuple[TermSpec, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, 'terms', tuple(self.terms))
        if not self.terms:
            raise ValueError('observation terms are empty; expected at least one')
        names = [term.name for term in self.terms]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f'observation term {name!r} appears twice')

    @property
    def names(self) -> tuple[str, ...]:
        """Return the terms' names in order."""
        return tuple(term.name for term in self.terms)

    @cached_property
    def size(self) -> int:
        """Return the length O of the observation vector."""
        return sum(term.width for term in self.terms)

    @cached_property
    def slices(self) -> dict[str, slice]:
        """Return, per term, its slice of the vector (all lags)."""
        out, start = {}, 0
        for term in self.terms:
            out[term.name] = slice(start, start + term.width)
            start += term.width
        return out

    def slice_of(self, name: str, lag: int) -> slice:
        """Return the slice of one lag of one term. Raises ``KeyError`` where there is none."""
        term = self.term(name)
        if lag not in term.history:
            raise KeyError(f'term {name!r} has no lag {lag}; its lags are {list(term.history)}')
        start = self.slices[name].start + term.history.index(lag) * term.size
        return slice(start, start + term.size)

    def term(self, name: str) -> TermSpec:
        """Return the term of that name, or raise ``KeyError``."""
        for term in self.terms:
            if term.name == name:
                return term
        raise KeyError(f'no observation term {name!r}; the layout has {", ".join(self.names)}')

    def to_list(self) -> list[dict[str, Any]]:
        """Return the terms as plain mappings, as the policy's metadata holds them."""
        return [{**asdict(term), 'history': list(term.history)} for term in self.terms]

    @classmethod
    def from_list(cls, data: Any) -> 'ObservationLayout':
        """Build a layout from :meth:`to_list`'s form. Raises ``ValueError`` with a sentence."""
        if not isinstance(data, list):
            raise ValueError(f'observation terms are a {type(data).__name__}; expected a list')
        terms = []
        keys = {'name', 'size', 'scale', 'history'}
        for index, entry in enumerate(data):
            if not isinstance(entry, dict) or set(entry) != keys:
                raise ValueError(f'observation term {index} is not a mapping of name, size, scale and history')
            terms.append(TermSpec(**entry))
        return cls(tuple(terms))

    def to_json(self) -> str:
        """Return the layout as a JSON string."""
        return json.dumps(self.to_list())

    @classmethod
    def from_json(cls, text: str) -> 'ObservationLayout':
        """Read :meth:`to_json`'s string back. Raises ``ValueError``."""
        return cls.from_list(json.loads(text))


def nep_terms(num_joints: int = 29, history: Sequence[int] = HISTORY) -> tuple[TermSpec, ...]:
    """Return the default terms without external perception (NEP): 494 numbers with 29 joints."""
    lags = tuple(history)
    return (
        TermSpec('base_ang_vel', 3, 0.25, lags),
        TermSpec('projected_gravity', 3, 1.0, lags),
        TermSpec('joint_pos', num_joints, 1.0, lags),
        TermSpec('joint_vel', num_joints, 0.05, lags),
        TermSpec('last_action', num_joints, 1.0, lags),
        TermSpec('pd_error', num_joints, 1.0, (0,)),
    )


def mocap_terms(
    num_objects: int = 1,
    object_history: Sequence[int] = OBJECT_HISTORY,
    num_joints: int = 29,
    history: Sequence[int] = HISTORY,
) -> tuple[TermSpec, ...]:
    """Return the default MoCap terms: those of NEP, then ``object_pos`` and ``object_tracked``."""
    lags = tuple(object_history)
    return (
        *nep_terms(num_joints, history),
        TermSpec('object_pos', 3 * num_objects, 1.0, lags),
        TermSpec('object_tracked', num_objects, 1.0, lags),
    )


class ObservationHistory:
    """A batched ring buffer over control ticks that turns raw terms into observation vectors.

    After a reset (and at the start) the first pushed frame fills the whole history of that
    environment, as if the robot had stood in it for ever; there are no zeros from before the
    beginning. Scales are applied on push.

    ``device``: None keeps numpy arrays; a torch device keeps torch tensors there (terms are then
    tensors).
    """

    def __init__(self, layout: ObservationLayout, num_envs: int = 1, device: Any | None = None) -> None:
        if num_envs < 1:
            raise ValueError(f'num_envs is {num_envs}; expected at least 1')
        self.layout = layout
        self.num_envs = num_envs
        self._torch: Any = None
        if device is not None:
            import torch

            self._torch = torch
        self._device = device
        self._rings = {term.name: self._zeros((max(term.history) + 1, num_envs, term.size)) for term in layout.terms}
        # Buffers are looked up once here: push() and vector() run on the robot at 100 Hz.
        self._plan = [(t.name, t.scale, self._rings[t.name]) for t in layout.terms]
        self._reads = [(self._rings[t.name], lag, max(t.history) + 1) for t in layout.terms for lag in t.history]
        self._tick = -1
        self._pending: Array = None  # bool (N,), None when no reset waits
        self.reset()

    def _zeros(self, shape: tuple[int, ...]) -> Array:
        if self._torch is None:
            return np.zeros(shape, dtype=np.float32)
        return self._torch.zeros(shape, dtype=self._torch.float32, device=self._device)

    def reset(self, mask: Array | None = None) -> None:
        """Forget the history of the environments in ``mask`` ((N,) bool; None: of all).

        It takes effect with the next push, whose frame fills those environments' history.
        """
        if mask is None:
            if self._torch is None:
                self._pending = np.ones(self.num_envs, dtype=bool)
            else:
                self._pending = self._torch.ones(self.num_envs, dtype=self._torch.bool, device=self._device)
            return
        if tuple(mask.shape) != (self.num_envs,):
            raise ValueError(f'reset mask has shape {tuple(mask.shape)}; expected ({self.num_envs},) bool')
        mask = mask.astype(bool) if self._torch is None else mask.bool()
        self._pending = mask | self._pending if self._pending is not None else mask

    def push(self, terms: Mapping[str, Array]) -> None:
        """Add one control tick: per term its raw values (N, size). Terms that the layout lacks are
        ignored.

        Raises ``KeyError`` for a missing term and ``ValueError`` for a wrong shape.
        """
        self._tick += 1
        pending, self._pending = self._pending, None
        for name, scale, ring in self._plan:
            value = terms[name]
            depth = ring.shape[0]
            slot = ring[self._tick % depth]
            if value.shape != slot.shape:
                raise ValueError(f'term {name!r} has shape {tuple(value.shape)}; expected {tuple(slot.shape)}')
            if self._torch is None:
                np.multiply(value, scale, out=slot, casting='same_kind')
            else:
                # In two steps: `out=` of mul would refuse float64 input.
                slot.copy_(value)
                slot.mul_(scale)
            if pending is None or depth == 1:
                continue
            if self._torch is None:
                ring[:, pending] = slot[pending]
            else:  # `where` needs no host copy of the mask
                ring.copy_(self._torch.where(pending[None, :, None], slot[None], ring))

    def vector(self, out: Array | None = None) -> Array:
        """Return the observation (N, O) float32 of the last pushed tick: a new array, or ``out``
        filled.

        Raises ``RuntimeError`` before the first push.
        """
        if self._tick < 0:
            raise RuntimeError('vector() before the first push(): there is nothing to observe yet')
        tick = self._tick
        parts = [ring[(tick - lag) % depth] for ring, lag, depth in self._reads]
        if self._torch is None:
            return np.concatenate(parts, axis=1, out=out)
        return self._torch.cat(parts, dim=1, out=out)
