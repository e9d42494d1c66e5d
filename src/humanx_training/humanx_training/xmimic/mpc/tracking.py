"""The model-based teacher of a clip's body: a feasible version of the clip and time-varying feedback around it.

Labels do not depend on where in the world the robot stands, which a student cannot know: the reference is moved to the
robot's planted feet before the feedback is asked.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import mujoco
import numpy as np
import torch

from humanx_description import robot
from humanx_description.errors import UserError
from humanx_description.scene import scene
from humanx_training import rotation
from humanx_training.clip import InteractionClip
from humanx_training.xmimic.env import HumanXEnv
from humanx_training.xmimic.mpc.expert import turn_back
from humanx_training.xmimic.mpc.feasible import Feasible, make_feasible
from humanx_training.xmimic.mpc.inverse import BodySolver, velocities
from humanx_training.xmimic.mpc.linearise import linearise, state_error
from humanx_training.xmimic.mpc.lqr import Feedback, LqrWeights, feedback
from humanx_training.xmimic.mpc.reference import Reference

DT = 0.01  # s
DELAY = 2  # substeps of 5 ms that a command takes: the most that training draws; with less the law is only softer
_LIFTED, _MOVING = 0.02, 0.3  # m above the sole's height, m/s: a foot beyond either is not planted
_LABEL_LIMIT = 6.0  # action units
_STRAYED = np.array([0.25, 0.25, 0.2, 0.7, 0.7, 0.7])  # m, rad, of the pelvis


def clip_reference(model: mujoco.MjModel, clip: InteractionClip) -> Reference:
    """Return the clip's body as a reference with servo targets from inverse dynamics.

    ``model`` is a scene without objects. The load on each foot follows from its height and speed.
    """
    clip = clip.resampled(1 / DT)
    solver = BodySolver(model)
    qpos = clip.qpos()[:, :36].astype(float)
    qvel = velocities(qpos, DT)
    qacc = np.gradient(qvel, DT, axis=0)
    feet = np.array([[solver.foot_pose(q, foot)[0] for foot in (0, 1)] for q in qpos])
    load = foot_load(feet)
    target = np.zeros((len(qpos), robot.NUM_JOINTS))
    for t in range(len(qpos)):
        torque, _ = solver.motor_torque(qpos[t], qvel[t], qacc[t], (load[t, 0], load[t, 1]))
        torque = np.clip(torque, -robot.EFFORT_LIMIT, robot.EFFORT_LIMIT)
        target[t] = qpos[t, 7:] + (torque + robot.KD * qvel[t, 6:]) / robot.KP
    return Reference(qpos, qvel, target, load, 0, DT)


def foot_load(feet: np.ndarray) -> np.ndarray:
    """Return how much each foot carries (T, 2), 0 to 1, from the ankles' paths (T, 2, 3) at 100 Hz."""
    height = feet[:, :, 2] - robot.FOOT_SOLE_OFFSET
    speed = np.linalg.norm(np.gradient(feet, DT, axis=0), axis=-1)
    planted = np.clip(1.5 - height / _LIFTED, 0, 1) * np.clip(1.5 - speed / _MOVING, 0, 1)
    return planted


def feasible_clip(clip: InteractionClip, feasible: Feasible) -> InteractionClip:
    """Return the clip with the body replaced by its feasible version, at 100 Hz."""
    clip = clip.resampled(1 / DT)
    count = min(clip.num_frames, len(feasible.qpos))
    return dataclasses.replace(
        clip,
        root_pos=feasible.qpos[:count, :3],
        root_quat=feasible.qpos[:count, 3:7],
        joint_pos=feasible.qpos[:count, 7:],
        provenance=clip.provenance | {'feasible': 'multiple shooting with LQR feedback', 'passes': feasible.history},
    )


def solve(reference: Reference, where: str = 'clip', weights: LqrWeights | None = None, passes: int = 10) -> Feasible:
    """Return the feasible version of a reference; ``where`` names it in errors.

    Raises :class:`UserError` if every pass fell or strayed: the clip is too far from what the robot can do.
    """
    result = make_feasible(scene(), reference, weights or LqrWeights(), passes=passes)
    if not result.complete:
        reached = max((h['survived'] for h in result.history), default=0) * DT
        raise UserError(
            f'{where}: no feasible version found in {passes} passes (the best rollout lasted {reached:.1f} of '
            f'{len(reference.qpos) * DT:.1f} s); expected feet that can carry it.'
        )
    return result


def save_feasible(path: Path, feasible: Feasible) -> None:
    """Write ``qpos``, ``qvel``, ``target`` to an ``.npz``."""
    np.savez_compressed(path, qpos=feasible.qpos, qvel=feasible.qvel, target=feasible.target)


def load_feasible(path: Path) -> Feasible:
    """Read what :func:`save_feasible` wrote; raises :class:`UserError`."""
    try:
        with np.load(path, allow_pickle=False) as data:
            return Feasible(data['qpos'], data['qvel'], data['target'], True)
    except (OSError, ValueError, KeyError):
        raise UserError(f'{path}: is not a feasible motion; expected qpos, qvel and target.') from None


class TrackingTeacher:
    """Labels the states of an environment whose clips are the feasible ones, in the same order."""

    def __init__(self, env: HumanXEnv, feasible: Sequence[Feasible], weights: LqrWeights | None = None) -> None:
        """Compute the feedback around every motion (a few seconds each)."""
        if len(feasible) != env.clips.num_clips:
            raise UserError(f'teacher: has {len(feasible)} motions; expected {env.clips.num_clips}, one per clip.')
        model = scene()
        weights = weights or LqrWeights()
        laws = [
            feedback(linearise(model, f.qpos, f.qvel, f.target), f.qpos, f.qvel, f.target, weights, DELAY)
            for f in feasible
        ]
        self._law = Feedback.joined(laws)
        clips = env.clips
        if len(self._law) != len(clips.qpos):
            raise UserError('teacher: its motions are not as long as the clips; expected the feasible clips.')
        feet = [clips.bodies.index(name) for name in robot.FOOT_BODIES]
        self._feet = feet
        self._ref_feet = clips.body_pos[:, feet].cpu().numpy().astype(float)
        self._ref_yaw = np.stack([rotation.yaw(clips.body_quat[:, f].cpu().numpy().astype(float)) for f in feet], 1)
        starts, ends = clips.starts.tolist(), (clips.starts + clips.lengths).tolist()
        self._load = np.concatenate([foot_load(self._ref_feet[a:b]) for a, b in zip(starts, ends)])
        self._offset = np.zeros((env.num_envs, 3))  # x, y, yaw of the world's reference frame as last seen
        self.strayed = torch.zeros(env.num_envs, dtype=torch.bool, device=env.device)

    def label(self, env: HumanXEnv) -> torch.Tensor:
        """Return actions (N, 29): the feedback's targets in the deployed policy's terms.

        ``strayed`` (N,) then says whose robot is beyond what linear feedback can bring back.
        """
        frame = env.frame.cpu().numpy()
        qpos = env.sim.qpos[:, :36].cpu().numpy().astype(float)
        qvel = env.sim.qvel[:, :35].cpu().numpy().astype(float)
        pos = env.sim.xpos[:, self._feet].cpu().numpy().astype(float)
        quat = env.sim.xquat[:, self._feet].cpu().numpy().astype(float)
        qpos, qvel = self._into_reference(frame, qpos, qvel, pos, quat)
        default, scale = env.default_joints.cpu().numpy(), env.action_scale.cpu().numpy()
        previous = np.clip(default + scale * env.action.cpu().numpy(), robot.TARGET_LOWER, robot.TARGET_UPPER)
        targets = self._law(frame, qpos, qvel, previous)
        root = state_error(qpos, qvel, self._law.qpos[frame], self._law.qvel[frame])[:, :6]
        self.strayed = torch.as_tensor((np.abs(root) > _STRAYED).any(1), device=env.device)
        action = np.clip((targets - default) / scale, -_LABEL_LIMIT, _LABEL_LIMIT)
        return torch.as_tensor(action, dtype=torch.float32, device=env.device)

    def _into_reference(
        self, frame: np.ndarray, qpos: np.ndarray, qvel: np.ndarray, feet: np.ndarray, quat: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return robot states moved so that the planted feet lie where the reference has them."""
        load = self._load[frame]
        total = load.sum(1)
        share = load / np.maximum(total, 1e-6)[:, None]
        turn = np.stack([rotation.yaw(quat[:, k]) for k in (0, 1)], 1) - self._ref_yaw[frame]
        turn = (np.arctan2(np.sin(turn), np.cos(turn)) * share).sum(1)
        centre = (feet[:, :, :2] * share[..., None]).sum(1)
        wanted = (self._ref_feet[frame][:, :, :2] * share[..., None]).sum(1)
        planted = total > 0.3
        # In flight no foot tells: keep what the last planted foot said.
        self._offset[planted, 2] = turn[planted]
        yaw = self._offset[:, 2]
        self._offset[planted, :2] = (centre - turn_back(-yaw, wanted))[planted]
        qpos, qvel = qpos.copy(), qvel.copy()
        qpos[:, :2] = turn_back(yaw, qpos[:, :2] - self._offset[:, :2])
        qpos[:, 3:7] = rotation.multiply(rotation.from_yaw(-yaw), qpos[:, 3:7])
        qvel[:, :2] = turn_back(yaw, qvel[:, :2])
        return qpos, qvel

