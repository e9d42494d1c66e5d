"""Residuals of the refinement: each is one line of the cost, a free function that adds to the normal equations.

Every residual is divided by its tolerance, the size of error that costs 1/2; tolerances are fields of :class:`Tolerances`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import ConvexHull

from humanx_description.robot import FOOT_SOLE_OFFSET
from humanx_training.xgen import rotations as rot
from humanx_training.xgen.retarget.banded import NormalEquations
from humanx_training.xgen.retarget.kinematics import NUM_DOF, Kinematics

GRAVITY = 9.81
# Sole corners of the foot in its ankle_roll frame (m): the ends of the outer collision capsules.
SOLE = np.array([
    [0.123, 0.018, -FOOT_SOLE_OFFSET], [0.123, -0.018, -FOOT_SOLE_OFFSET],
    [-0.044, 0.018, -FOOT_SOLE_OFFSET], [-0.044, -0.018, -FOOT_SOLE_OFFSET],
    [0.132, 0.0, -FOOT_SOLE_OFFSET], [-0.054, 0.0, -FOOT_SOLE_OFFSET],
])  # fmt: skip
# Support is counted a little inside the sole.
SUPPORT = np.array([[0.11, 0.022], [0.11, -0.022], [-0.04, 0.018], [-0.04, -0.018]])


@dataclass(frozen=True)
class Tolerances:
    """Errors that cost 1/2 each (m, rad, s)."""

    plant_pos: float = 0.0005
    plant_rot: float = 0.002
    swing_pos: float = 0.02
    swing_rot: float = 0.2
    sole: float = 0.001
    pelvis_pos: float = 0.04
    pelvis_rot: float = 0.10
    torso_rot: float = 0.10
    knee: float = 0.06
    shoulder: float = 0.06
    elbow: float = 0.025
    wrist: float = 0.02
    hand: float = 0.025
    hand_rot: float = 0.5
    posture: float = 1.5
    joint_acc: float = 120.0
    root_acc: float = 8.0
    root_rot_acc: float = 60.0
    joint_vel: float = 0.5
    balance: float = 0.01
    collision: float = 0.001


def body_pos(
    eq: NormalEquations, kin: Kinematics, body: str, local: np.ndarray, target: np.ndarray, weight: np.ndarray
) -> None:
    """A body-fixed point (m) is at ``target`` (T, 3); ``weight`` (T,) is 1 / tolerance."""
    index = kin.body_index[body]
    point = kin.point(index, local)
    w = weight[:, None]
    eq.add(kin.jac_point(index, point) * w[:, :, None], (point - target) * w)


def body_rot(eq: NormalEquations, kin: Kinematics, body: str, target: np.ndarray, weight: np.ndarray) -> None:
    """A body has the orientation ``target`` (T, 3, 3); error as a rotation vector (rad) in the world."""
    index = kin.body_index[body]
    error = rot.log(kin.mat[:, index] @ rot.transpose(target))
    w = weight[:, None]
    eq.add(kin.jac_rot(index) * w[:, :, None], error * w)


def sole_above_floor(eq: NormalEquations, kin: Kinematics, body: str, clearance: np.ndarray, weight: float) -> None:
    """No corner of the sole is below ``clearance`` (T,) m."""
    index = kin.body_index[body]
    for corner in SOLE:
        point = kin.point(index, corner)
        below = point[:, 2] - clearance
        frames = np.flatnonzero(below < 0)
        if len(frames):
            jac = kin.jac_point_at(frames, index, point[frames])[:, 2:3]
            eq.add_at(frames, jac * weight, below[frames, None] * weight)


def posture(eq: NormalEquations, joints: np.ndarray, rest: np.ndarray, weight: np.ndarray) -> None:
    """The joints (T, 29) are near ``rest``; ``weight`` (29,) or (T, 29)."""
    full = np.zeros((len(joints), NUM_DOF))
    full[:, 6:] = weight
    eq.add_diagonal(full, np.concatenate([np.zeros((len(joints), 6)), (joints - rest)], axis=1) * full)


def smooth(eq: NormalEquations, kin: Kinematics, fps: float, tol: Tolerances) -> None:
    """Second differences of root and joints are small: accelerations (m/s^2, rad/s^2) over their tolerances."""
    pose = kin.pose
    weight = np.full(NUM_DOF, fps**2 / tol.joint_acc)
    weight[:3], weight[3:6] = fps**2 / tol.root_acc, fps**2 / tol.root_rot_acc
    turn = rot.log(rot.transpose(pose.mat[:-1]) @ pose.mat[1:])
    second = np.concatenate(
        [np.diff(pose.pos, 2, axis=0), np.diff(turn, axis=0), np.diff(pose.joints, 2, axis=0)], axis=1
    )
    eq.add_diagonal_chain([weight, -2 * weight, weight], second * weight)


def joint_speed(eq: NormalEquations, joints: np.ndarray, fps: float, limit: np.ndarray, tol: Tolerances) -> None:
    """No joint is faster than ``limit`` (29,) rad/s between two frames."""
    speed = np.diff(joints, axis=0) * fps
    excess = np.sign(speed) * np.maximum(np.abs(speed) - limit, 0.0)
    if not excess.any():
        return
    active = np.zeros((len(excess), NUM_DOF))
    active[:, 6:] = (excess != 0) / tol.joint_vel
    residual = np.concatenate([np.zeros((len(excess), 6)), excess], axis=1) * active
    eq.add_diagonal_chain([-fps * active, fps * active], residual)


def support_polygons(feet_pos: np.ndarray, feet_mat: np.ndarray, planted: np.ndarray) -> list[np.ndarray | None]:
    """Return per frame the corners (K, 2) of the support, counter-clockwise, or None in the air.

    ``feet_pos`` (T, 2, 3) m, ``feet_mat`` (T, 2, 3, 3), ``planted`` (T, 2) bool. Equal neighbours share one array.
    """
    out: list[np.ndarray | None] = []
    key = None
    for frame in range(len(planted)):
        now = (
            planted[frame].tobytes(),
            (feet_pos[frame] * planted[frame, :, None]).tobytes(),
            (feet_mat[frame] * planted[frame, :, None, None]).tobytes(),
        )
        if key is not None and now == key:
            out.append(out[-1])
            continue
        key = now
        corners = [
            feet_pos[frame, side, :2] + SUPPORT @ feet_mat[frame, side, :2, :2].T
            for side in range(2)
            if planted[frame, side]
        ]
        if not corners:
            out.append(None)
        else:
            points = np.concatenate(corners)
            out.append(points[ConvexHull(points).vertices])
    return out


def outside(point: np.ndarray, polygon: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the vector (2,) from a polygon's nearest point to ``point`` (zero inside) and its Jacobian (2, 2)."""
    edge = np.roll(polygon, -1, axis=0) - polygon
    normal = np.stack([edge[:, 1], -edge[:, 0]], axis=1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    distance = np.einsum('ei,ei->e', normal, point - polygon)
    if distance.max() <= 0:
        return np.zeros(2), np.zeros((2, 2))
    share = np.clip(np.einsum('ei,ei->e', point - polygon, edge) / np.einsum('ei,ei->e', edge, edge), 0, 1)
    nearest = polygon + share[:, None] * edge
    gap = point - nearest
    best = int(np.argmin(np.where(distance > -1e-9, np.linalg.norm(gap, axis=1), np.inf)))
    if 0 < share[best] < 1:
        return gap[best], np.outer(normal[best], normal[best])
    return gap[best], np.eye(2)


def balance(
    eq: NormalEquations, kin: Kinematics, polygons: list[np.ndarray | None], fps: float, weight: np.ndarray
) -> None:
    """The zero-moment point of the centre of mass (a point mass) stays over the support.

    z = c - (h / g) c'' with c the centre of mass' place and h its height above the floor (m): a reference that keeps this
    can be followed without toppling. ``weight`` (T,) is 1 / tolerance; the two end frames have no acceleration.
    """
    com, jac = kin.com(), kin.jac_com()[:, :2]
    k = com[1:-1, 2:3] / GRAVITY * fps**2
    zmp = com[1:-1, :2] - k * (com[2:, :2] - 2 * com[1:-1, :2] + com[:-2, :2])
    residual = np.zeros_like(zmp)
    turn = np.zeros((len(zmp), 2, 2))
    for i, polygon in enumerate(polygons[1:-1]):
        if polygon is not None and weight[i + 1] > 0:
            residual[i], turn[i] = outside(zmp[i], polygon)
    w = weight[1:-1, None]
    turn = turn * w[:, :, None]
    k = k[:, :, None]
    eq.add_chain([-k * (turn @ jac[:-2]), (1 + 2 * k) * (turn @ jac[1:-1]), -k * (turn @ jac[2:])], residual * w)


def centred(eq: NormalEquations, kin: Kinematics, target: np.ndarray, weight: np.ndarray) -> None:
    """The centre of mass stands over ``target`` (T, 2) m."""
    com, jac = kin.com(), kin.jac_com()[:, :2]
    w = weight[:, None]
    eq.add(jac * w[:, :, None], (com[:, :2] - target) * w)
