"""Residuals of the refinement: each is one line of the cost, a free function that adds to the normal equations.

Every residual is divided by its tolerance, the size of error that costs 1/2; tolerances are in :class:`Tolerances`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.spatial import ConvexHull

from humanx_description.robot import FOOT_SOLE_OFFSET
from humanx_training.xgen import rotations as rot
from humanx_training.xgen.retarget.banded import NormalEquations
from humanx_training.xgen.retarget.kinematics import NUM_DOF, Kinematics

GRAVITY = 9.81
# Sole corners of the foot in its ankle_roll frame (m): below the ends of the outer and middle collision capsules.
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
    leg_acc: float = 200.0
    arm_acc: float = 300.0
    wrist_acc: float = 600.0
    root_acc: float = 8.0
    root_rot_acc: float = 60.0
    joint_vel: float = 0.15
    balance: float = 0.02
    balance_reach: float = 0.10  # m; further outside the support, the cost is linear
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


def posture(eq: NormalEquations, joints: np.ndarray, rest: np.ndarray, weight: np.ndarray) -> None:
    """The joints (T, 29) are near ``rest``; ``weight`` (29,) or (T, 29)."""
    full = np.zeros((len(joints), NUM_DOF))
    full[:, 6:] = weight
    eq.add_diagonal(full, np.concatenate([np.zeros((len(joints), 6)), (joints - rest)], axis=1) * full)


def smooth(eq: NormalEquations, kin: Kinematics, fps: float, tol: Tolerances) -> None:
    """Second differences of root and joints are small: accelerations (m/s^2, rad/s^2) over their tolerances."""
    pose = kin.pose
    weight = np.full(NUM_DOF, fps**2 / tol.leg_acc)
    weight[:3], weight[3:6] = fps**2 / tol.root_acc, fps**2 / tol.root_rot_acc
    weight[21:35] = fps**2 / tol.arm_acc
    weight[[25, 26, 27, 32, 33, 34]] = fps**2 / tol.wrist_acc
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


def support_polygon(feet_pos: np.ndarray, feet_mat: np.ndarray, planted: np.ndarray) -> np.ndarray | None:
    """Return the corners (P, 2) m of the support of level feet, counter-clockwise, or None in the air.

    ``feet_pos`` (2, 3) m, ``feet_mat`` (2, 3, 3), ``planted`` (2,) bool.
    """
    corners = [feet_pos[s, :2] + SUPPORT @ feet_mat[s, :2, :2].T for s in range(2) if planted[s]]
    if not corners:
        return None
    points = np.concatenate(corners)
    return points[ConvexHull(points).vertices]


def support_intervals(
    feet_pos: np.ndarray, feet_mat: np.ndarray, planted: np.ndarray
) -> list[tuple[slice, np.ndarray]]:
    """Return the intervals of frames in which the support stays the same, with its polygon (P, 2); none in the air.

    ``feet_pos`` (T, 2, 3) m, ``feet_mat`` (T, 2, 3, 3), ``planted`` (T, 2) bool.
    """
    moved = np.any(np.diff(feet_pos, axis=0) != 0, axis=2) & planted[1:] & planted[:-1]
    changes = np.flatnonzero(np.any(np.diff(planted, axis=0), axis=1) | moved.any(axis=1)) + 1
    edges = [0, *changes.tolist(), len(planted)]
    out = []
    for start, stop in itertools.pairwise(edges):
        polygon = support_polygon(feet_pos[start], feet_mat[start], planted[start])
        if polygon is not None:
            out.append((slice(start, stop), polygon))
    return out


def outside(points: np.ndarray, polygon: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the vectors (K, 2) from a polygon to ``points`` (zero inside) and their Jacobians (K, 2, 2).

    ``polygon`` (P, 2) m is convex and counter-clockwise.
    """
    edge = np.roll(polygon, -1, axis=0) - polygon
    normal = np.stack([edge[:, 1], -edge[:, 0]], axis=1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    from_corner = points[:, None] - polygon
    distance = np.einsum('ei,kei->ke', normal, from_corner)
    share = np.einsum('kei,ei->ke', from_corner, edge) / np.einsum('ei,ei->e', edge, edge)
    share = np.clip(share, 0, 1)
    gap = from_corner - share[:, :, None] * edge
    best = np.argmin(np.where(distance > 0, np.linalg.norm(gap, axis=2), np.inf), axis=1)
    row = np.arange(len(points))
    on_edge = (share[row, best] > 0) & (share[row, best] < 1)
    turn = np.where(on_edge[:, None, None], normal[best][:, :, None] * normal[best][:, None, :], np.eye(2))
    out = distance.max(axis=1) > 0
    return np.where(out[:, None], gap[row, best], 0.0), np.where(out[:, None, None], turn, 0.0)


def balance(
    eq: NormalEquations, kin: Kinematics, supports: list[tuple[slice, np.ndarray]], fps: float, tol: Tolerances
) -> None:
    """The zero-moment point of the centre of mass (a point mass) stays over the support.

    z = c - (h / g) c'' with c the centre of mass' place and h its height above the floor (m): a reference that keeps
    this can be followed without toppling. Beyond ``balance_reach`` the cost grows only linearly (Huber), so that one
    leap that cannot be balanced does not tear the planted feet off the floor. ``supports``: intervals of frames with
    their polygon, from :func:`support_intervals`; the two end frames of the motion have no acceleration.
    """
    com, jac = kin.com(), kin.jac_com()[:, :2]
    k = com[1:-1, 2:3] / GRAVITY * fps**2
    zmp = com[1:-1, :2] - k * (com[2:, :2] - 2 * com[1:-1, :2] + com[:-2, :2])
    residual = np.zeros_like(zmp)
    turn = np.zeros((len(zmp), 2, 2))
    for frames, polygon in supports:
        rows = slice(max(frames.start - 1, 0), min(frames.stop - 1, len(zmp)))
        if rows.stop > rows.start:
            residual[rows], turn[rows] = outside(zmp[rows], polygon)
    size = np.linalg.norm(residual, axis=1)
    w = np.sqrt(np.minimum(1.0, tol.balance_reach / np.maximum(size, 1e-9)))[:, None] / tol.balance
    turn = turn * w[:, :, None]
    k = k[:, :, None]
    eq.add_chain([-k * (turn @ jac[:-2]), (1 + 2 * k) * (turn @ jac[1:-1]), -k * (turn @ jac[2:])], residual * w)
    far = np.maximum(size - tol.balance_reach, 0.0)
    eq.cost += float(np.sum(far * tol.balance_reach)) / tol.balance**2  # the Huber cost, not the reweighted one


def centred(eq: NormalEquations, kin: Kinematics, target: np.ndarray, weight: np.ndarray) -> None:
    """The centre of mass stands over ``target`` (T, 2) m."""
    com, jac = kin.com(), kin.jac_com()[:, :2]
    w = weight[:, None]
    eq.add(jac * w[:, :, None], (com[:, :2] - target) * w)
