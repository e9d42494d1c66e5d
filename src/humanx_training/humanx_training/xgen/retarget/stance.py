"""A statically balanced stance on two given foot places: what the robot stands in before and after a clip."""

from __future__ import annotations

import numpy as np

from humanx_description.robot import DEFAULT_JOINT_POS, FOOT_BODIES, FOOT_SOLE_OFFSET
from humanx_training.xgen import rotations as rot
from humanx_training.xgen.retarget import limits, terms
from humanx_training.xgen.retarget.banded import NormalEquations
from humanx_training.xgen.retarget.kinematics import NUM_DOF, Kinematics, Pose
from humanx_training.xgen.retarget.plan import ANKLE_ABOVE_SOLE

NOMINAL_HEIGHT = 0.755  # m, pelvis above the floor


def balanced_stance(kin: Kinematics, feet_pos: np.ndarray, feet_mat: np.ndarray) -> Pose:
    """Return one pose: default-like, both soles flat on their places, the centre of mass over the support's middle.

    ``feet_pos`` (2, 3) m: ankle pitch axes; ``feet_mat`` (2, 3, 3): level soles.
    """
    heading = _mean_yaw(rot.yaw_of(feet_mat))
    upright = rot.rot_z(np.array([heading]))
    # The middle of the soles, not of the ankles: the sole reaches further forward than back.
    middle = np.mean([
        feet_pos[side, :2] + terms.SUPPORT.mean(axis=0) @ feet_mat[side, :2, :2].T for side in range(2)
    ], axis=0)  # fmt: skip
    pose = Pose(np.array([[*middle, NOMINAL_HEIGHT]]), upright, DEFAULT_JOINT_POS[None].copy())
    soles = [feet_pos[s] - np.array([0, 0, ANKLE_ABOVE_SOLE - FOOT_SOLE_OFFSET]) for s in range(2)]
    one = np.ones(1)
    for _ in range(40):
        kin.update(pose)
        eq = NormalEquations(1, NUM_DOF)
        for side, body in enumerate(FOOT_BODIES):
            terms.body_pos(eq, kin, body, np.zeros(3), soles[side][None], one / 1e-4)
            terms.body_rot(eq, kin, body, feet_mat[side][None], one / 1e-3)
        terms.body_rot(eq, kin, 'pelvis', upright, one / 0.05)
        terms.body_rot(eq, kin, 'torso_link', upright, one / 0.05)
        terms.centred(eq, kin, middle[None], one / 0.002)
        terms.posture(eq, pose.joints, DEFAULT_JOINT_POS[None], np.full(29, 1 / 0.4))
        step = eq.solve(1e-6, np.zeros((1, NUM_DOF), dtype=bool))
        step = np.clip(step, -0.2, 0.2)
        pose = pose.moved(step)
        pose.joints = np.clip(pose.joints, limits.LOWER, limits.UPPER)
        if np.abs(step).max() < 1e-7:
            break
    return pose


def _mean_yaw(yaw: np.ndarray) -> float:
    return float(np.arctan2(np.sin(yaw).mean(), np.cos(yaw).mean()))
