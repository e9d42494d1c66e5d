"""Make a reference dynamically feasible: multiple shooting with feedback, a few passes over the whole motion.

Each pass rolls the motion out under the current feedback; what the robot did, up to where it strayed, becomes the next
nominal motion (the reference beyond), and a Gauss-Newton step pulls it back toward the reference. Deterministic, so
that neighbouring references give neighbouring motions, which sampling does not.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import mujoco
import numpy as np

from humanx_training.xmimic.mpc.linearise import linearise, state_error
from humanx_training.xmimic.mpc.lqr import Feedback, LqrWeights, feedback
from humanx_training.xmimic.mpc.reference import Reference

_FALLEN = 0.25  # m, pelvis below the motion's
_STRAYED = np.array([0.1, 0.1, 0.1, 0.3, 0.3, 0.3])  # m, rad: root error that ends the usable part of a rollout
_STEP_SHARES = (1.0, 0.5, 0.25)  # of a Gauss-Newton step, tried in this order
_PENETRATION = 0.0007  # m the soles sink into the floor under the robot's weight


@dataclass(frozen=True)
class Feasible:
    """A feasible motion: ``qpos`` (T, 36), ``qvel`` (T, 35), ``target`` (T, 29) that really lead from frame to frame.

    ``history`` holds the frames survived, the worst root and the mean joint deviation from the reference (m, rad) after
    each pass, ``deviation`` those of this motion.
    """

    qpos: np.ndarray
    qvel: np.ndarray
    target: np.ndarray
    complete: bool
    history: list[dict] = field(default_factory=list)
    deviation: dict = field(default_factory=dict)


def rollout(
    model: mujoco.MjModel, law: Feedback, qpos: np.ndarray, qvel: np.ndarray, extra: int = 0, substeps: int = 2
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return positions (L+1, 36), velocities (L+1, 35) and targets (L, 29) of one robot under ``law``.

    Goes on for ``extra`` control steps with the last gain, and stops early when the robot falls.
    """
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = qpos, qvel
    positions, velocities, targets = [qpos.copy()], [qvel.copy()], []
    previous = law.target[0]
    for t in range(len(law) - 1 + extra):
        frame = min(t, len(law) - 1)
        previous = law(frame, data.qpos[None], data.qvel[None], previous[None])[0]
        data.ctrl[:] = previous
        for _ in range(substeps):
            mujoco.mj_step(model, data)
        positions.append(data.qpos.copy())
        velocities.append(data.qvel.copy())
        targets.append(previous)
        if data.qpos[2] < law.qpos[frame, 2] - _FALLEN or not np.isfinite(data.qpos).all():
            break
    return np.array(positions), np.array(velocities), np.array(targets)


@dataclass(frozen=True)
class _Attempt:
    """A rollout under ``law`` and how it compares with what is wanted: frames ``survived`` and ``usable``, worst root
    (m) and mean joint deviation (rad)."""

    law: Feedback
    qpos: np.ndarray
    qvel: np.ndarray
    target: np.ndarray
    survived: int
    usable: int
    complete: bool
    root: float
    joint: float

    def better_than(self, other: _Attempt) -> bool:
        return (self.complete, self.usable, -self.joint) > (other.complete, other.usable, -other.joint)


def _try(
    model: mujoco.MjModel, law: Feedback, wanted: tuple[np.ndarray, np.ndarray, np.ndarray], hold: int
) -> _Attempt:
    wanted_qpos, wanted_qvel, _ = wanted
    qpos, qvel, target = rollout(model, law, law.qpos[0], law.qvel[0], extra=hold)
    usable = min(len(qpos), len(wanted_qpos))
    error = np.abs(state_error(qpos[:usable], qvel[:usable], wanted_qpos[:usable], wanted_qvel[:usable]))
    strayed = np.flatnonzero((error[:, :6] > _STRAYED).any(1))
    complete = len(qpos) == len(wanted_qpos) + hold and not strayed.size
    if strayed.size:
        usable = int(strayed[0])
    elif not complete:
        usable = max(usable - 40, 0)
    root, joint = float(error[:, :3].max()), float(error[:, 6:35].mean())
    return _Attempt(law, qpos, qvel, target, len(qpos), usable, complete, root, joint)


def make_feasible(
    model: mujoco.MjModel, reference: Reference, weights: LqrWeights, passes: int = 6, hold: int = 200,
    start: Feasible | None = None, good: float = 0.0025,
) -> Feasible:
    """Return the motion of the robot that follows ``reference`` and stands for ``hold`` more steps.

    ``model`` holds the robot alone. ``start``, the feasible motion of a similar reference, is where the search begins.
    It ends after ``passes``, or once the mean joint deviation is below ``good`` (rad) in a complete rollout.
    ``complete`` is False when every pass fell or strayed.
    """
    wanted_qpos, wanted_qvel = reference.qpos.copy(), reference.qvel
    wanted_qpos[:, 2] -= _PENETRATION
    wanted = (wanted_qpos, wanted_qvel, reference.target)
    first = wanted if start is None else (start.qpos, start.qvel, start.target)
    qpos, qvel, target = (array.copy() for array in first)
    history: list[dict] = []
    best: Feasible | None = None
    for _ in range(passes):
        law = feedback(linearise(model, qpos, qvel, target), qpos, qvel, target, weights, wanted=wanted)
        found: _Attempt | None = None
        # Contacts bend the linear model: where the whole step makes it worse, a part of it may not.
        for share in _STEP_SHARES:
            attempt = _try(model, dataclasses.replace(law, target=target + share * (law.target - target)), wanted, hold)
            if found is None or attempt.better_than(found):
                found = attempt
            if attempt.complete and (best is None or attempt.joint < best.deviation['joint']):
                break
        assert found is not None
        history.append({'survived': found.survived, 'root': found.root, 'joint': found.joint})
        if best is not None and not (found.complete and found.joint < best.deviation['joint']):
            break  # it gets no better
        usable = found.usable
        qpos, qvel, target = wanted_qpos.copy(), wanted_qvel.copy(), found.law.target.copy()
        qpos[:usable], qvel[:usable] = found.qpos[:usable], found.qvel[:usable]
        moved = min(usable, len(found.target))
        target[:moved] = found.target[:moved]
        if found.complete:
            best = Feasible(qpos, qvel, target, True, history, history[-1])
            if found.joint < good:
                break
    return best or Feasible(qpos, qvel, target, False, history, history[-1])
