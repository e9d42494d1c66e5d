"""Time-varying linear-quadratic feedback around a motion, aware of the delay between a command and its effect.

A command reaches the motors ``delay`` physics steps late, so the state of the problem is the robot's error (70) and the
previous command's deviation (29). Without it the feedback is so stiff that 10 ms of delay make it oscillate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from humanx_description.robot import ACTION_SCALE, NUM_JOINTS
from humanx_training.xmimic.mpc.linearise import STATE, LinearModel, state_error

AUGMENTED = STATE + NUM_JOINTS
# Errors beyond these do not ask for more (m, rad, rad, m/s, rad/s, rad/s): the linear model does not hold there.
ERROR_LIMIT = np.concatenate([[0.3] * 3, [0.5] * 3, [1.0] * 29, [2.0] * 3, [4.0] * 3, [15.0] * 29])
_COMMAND_LIMIT = 1.0  # rad, of the previous command's deviation


@dataclass(frozen=True)
class Feedback:
    """Servo targets ``target[t] + gain[t] [x - x_ref[t], previous - target[t-1]]`` along a motion of T frames.

    ``qpos`` (T, 36), ``qvel`` (T, 35), ``target`` (T, 29) rad, ``gain`` (T, 29, 99) float32. ``starts``: the frames at
    which a motion begins, where several follow one another; the command before is then the frame's own.
    """

    qpos: np.ndarray
    qvel: np.ndarray
    target: np.ndarray
    gain: np.ndarray
    starts: tuple[int, ...] = (0,)

    @classmethod
    def joined(cls, laws: Sequence[Feedback]) -> Feedback:
        """Return several motions' feedback, one after the other."""
        lengths = np.cumsum([0, *(len(law) for law in laws)])
        starts = tuple(int(at) + s for at, law in zip(lengths, laws) for s in law.starts)
        arrays = {n: np.concatenate([getattr(law, n) for law in laws]) for n in ('qpos', 'qvel', 'target', 'gain')}
        return cls(**arrays, starts=starts)

    def __len__(self) -> int:
        return len(self.qpos)

    def __call__(
        self, frame: np.ndarray | int, qpos: np.ndarray, qvel: np.ndarray, previous: np.ndarray
    ) -> np.ndarray:
        """Return targets (N, 29) for robot states (N, 36), (N, 35) and previous targets (N, 29) at ``frame`` (N,)."""
        error = state_error(qpos, qvel, self.qpos[frame], self.qvel[frame])
        error = np.clip(error, -ERROR_LIMIT, ERROR_LIMIT)
        frame = np.asarray(frame)
        before = np.where(np.isin(frame, self.starts), frame, frame - 1)
        command = np.clip(previous - self.target[before], -_COMMAND_LIMIT, _COMMAND_LIMIT)
        state = np.concatenate([error, command], -1).astype(np.float32)
        return self.target[frame] + (self.gain[frame] @ state[..., None])[..., 0]


@dataclass(frozen=True)
class LqrWeights:
    """Errors that cost as much as each other: root position (m), rotation (rad), joints (rad) and their velocities.

    ``action`` and ``rate`` are the costs of one unit of action (``action_scale`` rad of servo target) and of one unit
    of change between two control steps.
    """

    action: float = 2.0
    rate: float = 5.0
    root_pos: float = 0.1
    root_rot: float = 0.15
    joint: float = 0.3
    root_vel: float = 0.5
    root_turn: float = 1.5
    joint_vel: float = 6.0

    def state(self) -> np.ndarray:
        """Return the diagonal (70,) of the state cost."""
        scale = [self.root_pos] * 3 + [self.root_rot] * 3 + [self.joint] * 29
        scale += [self.root_vel] * 3 + [self.root_turn] * 3 + [self.joint_vel] * 29
        return 1.0 / np.square(scale)


def _augment(model: LinearModel, frame: int, delay: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (99, 99), (99, 29): the frame's model with the previous command as part of the state."""
    a = np.zeros((AUGMENTED, AUGMENTED))
    b = np.zeros((AUGMENTED, NUM_JOINTS))
    a[:STATE, :STATE] = model.a[frame]
    a[:STATE, STATE:] = model.b[frame, :delay].sum(0)
    b[:STATE] = model.b[frame, delay:].sum(0)
    b[STATE:] = np.eye(NUM_JOINTS)
    return a, b


@dataclass
class _Value:
    """Quadratic cost to go ``1/2 z P z + p z`` of the augmented error ``z``, and one step back in time."""

    weights: LqrWeights
    matrix: np.ndarray
    slope: np.ndarray

    @classmethod
    def start(cls, weights: LqrWeights) -> _Value:
        diagonal = np.concatenate([5 * weights.state(), np.zeros(NUM_JOINTS)])
        return cls(weights, np.diag(diagonal), np.zeros(AUGMENTED))

    def back(
        self, a: np.ndarray, b: np.ndarray, gap: np.ndarray, offset: np.ndarray, command: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Step back over one frame; return the gain (29, 99) and the change of the feed-forward (29,).

        ``gap`` (70,): where the model goes minus the next frame. ``offset`` (70,): this frame minus what is wanted.
        ``command`` (29,): this frame's command minus what is wanted.
        """
        unit = 1.0 / ACTION_SCALE**2
        rate, action = self.weights.rate * unit, self.weights.action * unit
        ahead = self.slope.copy()
        ahead += self.matrix[:, :STATE] @ gap
        curvature = np.diag(rate + action) + b.T @ self.matrix @ b
        cross = b.T @ self.matrix @ a
        cross[:, STATE:] -= np.diag(rate)
        push_slope = b.T @ ahead + action * command
        solved = -np.linalg.solve(curvature, np.concatenate([cross, push_slope[:, None]], 1))
        gain, push = solved[:, :-1], solved[:, -1]
        cost = np.concatenate([self.weights.state(), rate])
        self.slope = a.T @ ahead + cross.T @ push
        self.slope[:STATE] += self.weights.state() * offset
        matrix = np.diag(cost) + a.T @ self.matrix @ a + cross.T @ gain
        self.matrix = 0.5 * (matrix + matrix.T)
        return gain, push


def feedback(
    model: LinearModel,
    qpos: np.ndarray,
    qvel: np.ndarray,
    target: np.ndarray,
    weights: LqrWeights,
    delay: int = 0,
    wanted: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
) -> Feedback:
    """Return the feedback along a motion that ends standing still.

    ``wanted`` = (qpos, qvel, target) of the motion that the result should come close to: the feed-forward then takes
    one Gauss-Newton step toward it that also closes the gaps of a motion that is not yet feasible (multiple
    shooting). Without it the motion itself is wanted and its gaps are left alone.
    """
    count = len(qpos)
    gains = np.zeros((count, NUM_JOINTS, AUGMENTED), np.float32)
    out = target.copy()
    value = _Value.start(weights)
    zero, still = np.zeros(STATE), np.zeros(NUM_JOINTS)
    a, b = _augment(model, count - 1, delay)
    for _ in range(300):
        gains[-1], _push = value.back(a, b, zero, zero, still)
    value.slope[:] = 0
    gap = offset = np.zeros((count, STATE))
    command = np.zeros((count, NUM_JOINTS))
    if wanted is not None:
        gap = gap.copy()
        gap[:-1] = state_error(model.next_qpos[:-1], model.next_qvel[:-1], qpos[1:], qvel[1:])
        offset = state_error(qpos, qvel, wanted[0], wanted[1])
        command = target - wanted[2]
        value.slope[:STATE] = value.matrix[:STATE, :STATE] @ offset[-1]
    for t in range(count - 2, -1, -1):
        a, b = _augment(model, t, delay)
        gains[t], push = value.back(a, b, gap[t], offset[t], command[t])
        out[t] += push
    return Feedback(qpos, qvel, out, gains)
