"""Makes a foreign motion of the G1 stand: planted feet flat and still, balanced stances before and after.

For motions that were retargeted elsewhere, whose feet slide, tilt and sink by centimetres.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from humanx_description.errors import UserError
from humanx_description.robot import FOOT_BODIES, FOOT_SOLE_OFFSET
from humanx_training import rotation
from humanx_training.xgen import rotations as rot
from humanx_training.xgen.contact_path import smooth_step, spread
from humanx_training.xgen.human_motion import CapturedObject
from humanx_training.xgen.retarget.kinematics import Kinematics, Pose
from humanx_training.xgen.retarget.plan import ANKLE_ABOVE_SOLE
from humanx_training.xgen.retarget.stance import balanced_stance
from humanx_training.xgen.retarget.terms import SOLE
from humanx_training.xgen.robot_motion import RobotMotion
from humanx_training.xgen.whole_body import follow

_STANCE_SPEED = 0.30  # m/s of the ankle
_STANCE_RISE = 0.03  # m above its lowest usual height
_SHORTEST = 0.12  # s
_BLEND = 1.0  # s between a stance and the motion


def plant(motion: RobotMotion, start: int, stop: int, stance_seconds: float) -> RobotMotion:
    """Return frames ``start`` to ``stop`` with planted feet, preceded and followed by ``stance_seconds`` of stance.

    The piece is cut to begin and end on both feet. Raises :class:`UserError` when it never stands on both.
    """
    fps, kin = motion.fps, Kinematics()
    start, stop = on_both_feet(kin, motion, start, stop)
    pose = Pose(motion.root_pos, rot.quat_to_mat(motion.root_quat), motion.joint_pos)[slice(start, stop)]
    kin.update(pose)
    index = [kin.body_index[b] for b in FOOT_BODIES]
    pos, mat = kin.pos[:, index].copy(), kin.mat[:, index].copy()
    level = np.percentile(pos[:, :, 2], 20)
    planted = np.stack([_standing(pos[:, s], level, fps) for s in range(2)], axis=1)
    planted[0] = planted[-1] = True
    feet_pos, feet_mat = pos.copy(), mat.copy()
    for side in range(2):
        feet_pos[:, side], feet_mat[:, side] = _plant_foot(pos[:, side], mat[:, side], planted[:, side])
    lowered = pose.copy()
    lowered.pos[:, 2] += FOOT_SOLE_OFFSET - level
    # Room before and after: from a balanced stance on the first (last) feet into the motion.
    blend, hold = round(_BLEND * fps), round(stance_seconds * fps)
    parts = [_stance(kin, feet_pos[0], feet_mat[0]), _stance(kin, feet_pos[-1], feet_mat[-1])]
    solved = follow(kin, lowered, feet_pos, feet_mat, fps=fps)
    s = smooth_step(np.arange(1, blend + 1) / (blend + 1))
    before, after = _between(parts[0], solved[slice(0, 1)], s), _between(solved[slice(-1, None)], parts[1], s)
    before = follow(kin, before, _tile(feet_pos[0], blend), _tile(feet_mat[0], blend), fps=fps)
    after = follow(kin, after, _tile(feet_pos[-1], blend), _tile(feet_mat[-1], blend), fps=fps)
    whole = _cat([_repeat(parts[0], hold), before, solved, after, _repeat(parts[1], hold)])
    captured = motion.captured
    if captured is not None:
        at = np.clip(np.arange(len(whole)) - hold - blend, 0, stop - start - 1) + start
        captured = CapturedObject(captured.name, captured.pos[at], captured.quat[at], captured.contact[at])
    both = np.ones((hold + blend, 2), dtype=bool)
    return dataclasses.replace(
        motion,
        root_pos=whole.pos,
        root_quat=rotation.continuous(rot.mat_to_quat(whole.mat)),
        joint_pos=whole.joints,
        foot_contact=np.concatenate([both, planted, both]),
        clip_start=hold + blend,
        clip_stop=hold + blend + stop - start,
        captured=captured,
    )


def lift_sliding_feet(motion: RobotMotion, clearance: float = 0.012) -> RobotMotion:
    """Return the motion with feet that move along the floor lifted off it by ``clearance`` (m).

    Fast sources let a foot glide at a few millimetres' height, which a controller can only do with friction.
    """
    kin = Kinematics()
    pose = Pose(motion.root_pos, rot.quat_to_mat(motion.root_quat), motion.joint_pos)
    kin.update(pose)
    index = [kin.body_index[b] for b in FOOT_BODIES]
    feet, mats = kin.pos[:, index].copy(), kin.mat[:, index].copy()
    corners = feet[:, :, None] + np.einsum('tsij,cj->tsci', mats, SOLE)
    height = corners[..., 2].min(axis=2)
    speed = np.linalg.norm(np.gradient(feet[..., :2], axis=0), axis=2) * motion.fps
    wanted = clearance * smooth_step((speed - 0.06) / 0.14)
    lift = np.maximum(wanted - np.maximum(height, 0.0), 0.0)
    if lift.max() < 1e-4:
        return motion
    feet[:, :, 2] += spread(lift, reach=max(3, round(0.12 * motion.fps)))
    solved = follow(kin, pose, feet, mats, fps=motion.fps)
    return dataclasses.replace(
        motion,
        root_pos=solved.pos,
        root_quat=rotation.continuous(rot.mat_to_quat(solved.mat)),
        joint_pos=solved.joints,
    )


def on_both_feet(kin: Kinematics, motion: RobotMotion, start: int, stop: int) -> tuple[int, int]:
    """Return the part of frames ``start`` to ``stop`` that begins and ends on both feet, as :func:`plant` cuts it."""
    kin.update(Pose(motion.root_pos, rot.quat_to_mat(motion.root_quat), motion.joint_pos))
    pos = kin.pos[:, [kin.body_index[b] for b in FOOT_BODIES]]
    level = np.percentile(pos[start:stop, :, 2], 20)
    both = np.all([_standing(pos[:, s], level, motion.fps) for s in range(2)], axis=0)
    frames = np.flatnonzero(both[start:stop]) + start
    if len(frames) < 2:
        raise UserError('the motion never stands on both feet; expected a piece that begins and ends so.')
    return int(frames[0]), int(frames[-1]) + 1


def _standing(path: np.ndarray, level: float, fps: float) -> np.ndarray:
    speed = np.linalg.norm(np.gradient(path, axis=0), axis=1) * fps
    still = (speed < _STANCE_SPEED) & (path[:, 2] < level + _STANCE_RISE)
    edges = np.flatnonzero(np.diff(np.r_[0, still.astype(int), 0]))
    for a, b in zip(edges[::2], edges[1::2]):
        if b - a < _SHORTEST * fps:
            still[a:b] = False
    return still


def _plant_foot(pos: np.ndarray, mat: np.ndarray, planted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the foot's path with every stance flat and in one place; swings take over the change linearly."""
    frames = len(pos)
    shift, turn = np.full((frames, 3), np.nan), np.full((frames, 3), np.nan)
    edges = np.flatnonzero(np.diff(np.r_[0, planted.astype(int), 0]))
    for a, b in zip(edges[::2], edges[1::2]):
        place = np.median(pos[a:b], axis=0)
        place[2] = FOOT_SOLE_OFFSET
        yaw = np.arctan2(np.sin(rot.yaw_of(mat[a:b])).mean(), np.cos(rot.yaw_of(mat[a:b])).mean())
        shift[a:b] = place - pos[a:b]
        turn[a:b] = rot.log(rot.rot_z(np.full(b - a, yaw)) @ np.swapaxes(mat[a:b], 1, 2))
    known = np.flatnonzero(planted)
    at = np.arange(frames)
    for column in range(3):
        shift[:, column] = np.interp(at, known, shift[known, column])
        turn[:, column] = np.interp(at, known, turn[known, column])
    out = pos + shift
    out[:, 2] = np.maximum(out[:, 2], FOOT_SOLE_OFFSET)
    return out, rot.exp(turn) @ mat


def _stance(kin: Kinematics, feet_pos: np.ndarray, feet_mat: np.ndarray) -> Pose:
    ankles = feet_pos + [0.0, 0.0, ANKLE_ABOVE_SOLE - FOOT_SOLE_OFFSET]
    return balanced_stance(kin, ankles, feet_mat)


def _between(first: Pose, last: Pose, s: np.ndarray) -> Pose:
    """Return poses a fraction ``s`` (N,) of the way between two single poses."""
    turn = rot.log(np.swapaxes(first.mat, 1, 2) @ last.mat)
    return Pose(
        first.pos + s[:, None] * (last.pos - first.pos),
        first.mat @ rot.exp(s[:, None] * turn),
        first.joints + s[:, None] * (last.joints - first.joints),
    )


def _tile(x: np.ndarray, count: int) -> np.ndarray:
    return np.tile(x, (count, *[1] * x.ndim))


def _repeat(pose: Pose, count: int) -> Pose:
    return Pose(_tile(pose.pos[0], count), _tile(pose.mat[0], count), _tile(pose.joints[0], count))


def _cat(parts: list[Pose]) -> Pose:
    return Pose(*(np.concatenate([getattr(p, n) for p in parts]) for n in ('pos', 'mat', 'joints')))
