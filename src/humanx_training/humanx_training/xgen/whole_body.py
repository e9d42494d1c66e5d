"""A whole-body pose for given feet: both soles on their paths, the centre of mass over its path, the rest as it was."""

from __future__ import annotations

import numpy as np

from humanx_description.robot import FOOT_BODIES
from humanx_training.xgen.retarget import limits, terms
from humanx_training.xgen.retarget.banded import NormalEquations
from humanx_training.xgen.retarget.kinematics import NUM_DOF, Kinematics, Pose


def follow(
    kin: Kinematics,
    start: Pose,
    feet_pos: np.ndarray,
    feet_mat: np.ndarray,
    *,
    fps: float,
    com: np.ndarray | None = None,
    pelvis_height: np.ndarray | None = None,
    iterations: int = 12,
) -> Pose:
    """Return poses near ``start`` (T frames) whose feet are where they should be.

    ``feet_pos`` (T, 2, 3) m: origins of the ankle roll links (0.035 m above a flat sole); ``feet_mat`` (T, 2, 3, 3).
    ``com`` (T, 2) m: the place of the centre of mass (default: the pelvis stays near its start). All frames are solved
    together (Gauss-Newton), with a small weight on accelerations of the change, so that it is smooth.
    """
    frames = len(start)
    pose = start.copy()
    one = np.ones(frames)
    upright = start.mat
    reference = start.joints.copy()
    still = np.zeros((frames, NUM_DOF), dtype=bool)
    for _ in range(iterations):
        kin.update(pose)
        eq = NormalEquations(frames, NUM_DOF)
        for side, body in enumerate(FOOT_BODIES):
            terms.body_pos(eq, kin, body, np.zeros(3), feet_pos[:, side], one / 2e-4)
            terms.body_rot(eq, kin, body, feet_mat[:, side], one / 2e-3)
        terms.body_rot(eq, kin, 'pelvis', upright, one / 0.05)
        if com is not None:
            terms.centred(eq, kin, com, one / 0.002)
        else:
            _near(eq, pose.pos, start.pos, [0, 1], 0.01)
        _near(eq, pose.pos, start.pos if pelvis_height is None else _with_height(start.pos, pelvis_height), [2], 0.01)
        terms.posture(eq, pose.joints, reference, np.r_[np.full(12, 1 / 1.0), np.full(17, 1 / 0.03)])
        step = _smooth_step(eq, still, fps)
        pose = pose.moved(np.clip(step, -0.25, 0.25))
        pose.joints = np.clip(pose.joints, limits.LOWER, limits.UPPER)
        if np.abs(step).max() < 1e-5:
            break
    return pose


def _near(eq: NormalEquations, pos: np.ndarray, target: np.ndarray, axes: list[int], tolerance: float) -> None:
    weight, residual = np.zeros((len(pos), NUM_DOF)), np.zeros((len(pos), NUM_DOF))
    for axis in axes:
        weight[:, axis] = 1.0 / tolerance
        residual[:, axis] = (pos[:, axis] - target[:, axis]) / tolerance
    eq.add_diagonal(weight, residual)


def _with_height(pos: np.ndarray, height: np.ndarray) -> np.ndarray:
    return np.column_stack([pos[:, :2], height])


def _smooth_step(eq: NormalEquations, frozen: np.ndarray, fps: float) -> np.ndarray:
    if eq.frames >= 3:
        w = np.full(NUM_DOF, fps**2 / 400.0)
        eq.add_diagonal_chain([w, -2 * w, w], np.zeros((eq.frames - 2, NUM_DOF)))
    return eq.solve(1e-6, frozen)
