"""Forward kinematics and Jacobians of the G1 for many frames at once.

MuJoCo computes one configuration at a time; a refinement over a whole clip needs hundreds of frames in every iteration.
These are the same quantities on numpy arrays over the frames (compared with MuJoCo in the tests). The 35 degrees of
freedom are ordered as MuJoCo's: root position (world), root rotation (pelvis frame), 29 joints.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import mujoco
import numpy as np

from humanx_description.assets import g1_mjcf
from humanx_description.robot import JOINT_NAMES
from humanx_training.xgen import rotations as rot

NUM_DOF = 35


def g1_spec() -> mujoco.MjSpec:
    """Return the description of the G1 with its collision shapes and without visual meshes (no floor)."""
    spec = mujoco.MjSpec.from_file(str(g1_mjcf()))
    for geom in list(spec.geoms):
        if geom.type == mujoco.mjtGeom.mjGEOM_MESH:
            spec.delete(geom)
    for mesh in list(spec.meshes):
        spec.delete(mesh)
    return spec


@lru_cache(maxsize=1)
def g1_model() -> mujoco.MjModel:
    """Return the compiled :func:`g1_spec`."""
    model = g1_spec().compile()
    names = tuple(model.joint(i).name for i in range(1, model.njnt))
    if names != JOINT_NAMES:
        raise RuntimeError('the G1 model has its joints in another order than humanx_description.robot')
    return model


def cross_columns(axes: np.ndarray, arm: np.ndarray) -> np.ndarray:
    """Return ``axes x arm`` for axes (T, 3, D) given as columns and arms (T, 3) or (T, 3, D)."""
    if arm.ndim == 2:
        arm = arm[:, :, None]
    return np.stack(
        [
            axes[:, 1] * arm[:, 2] - axes[:, 2] * arm[:, 1],
            axes[:, 2] * arm[:, 0] - axes[:, 0] * arm[:, 2],
            axes[:, 0] * arm[:, 1] - axes[:, 1] * arm[:, 0],
        ],
        axis=1,
    )


@dataclass
class Pose:
    """Configurations of the robot, one per frame."""

    pos: np.ndarray  # (T, 3) m, pelvis
    mat: np.ndarray  # (T, 3, 3)
    joints: np.ndarray  # (T, 29) rad

    def __len__(self) -> int:
        return len(self.pos)

    def copy(self) -> Pose:
        return Pose(self.pos.copy(), self.mat.copy(), self.joints.copy())

    def __getitem__(self, index: slice | np.ndarray) -> Pose:
        return Pose(self.pos[index], self.mat[index], self.joints[index])

    def moved(self, delta: np.ndarray) -> Pose:
        """Return the poses after a step (T, 35) in the degrees of freedom."""
        return Pose(self.pos + delta[:, :3], self.mat @ rot.exp(delta[:, 3:6]), self.joints + delta[:, 6:])


class Kinematics:
    """The state of all frames after :meth:`update`; see the module's text for the order of the columns."""

    def __init__(self, model: mujoco.MjModel | None = None) -> None:
        self.model = model = model or g1_model()
        self.body_index = {model.body(i).name: i for i in range(model.nbody)}
        self._parents = model.body_parentid
        self._offset = model.body_pos.copy()
        self._turn = rot.quat_to_mat(model.body_quat)
        self._joint_of = np.full(model.nbody, -1)
        for joint in range(1, model.njnt):
            self._joint_of[model.jnt_bodyid[joint]] = joint - 1
        self._axis = model.jnt_axis[1:].copy()
        # above[b, j]: joint j moves body b.
        self._above = np.zeros((model.nbody, model.njnt - 1), dtype=bool)
        for body in range(2, model.nbody):
            self._above[body] = self._above[self._parents[body]]
            if self._joint_of[body] >= 0:
                self._above[body, self._joint_of[body]] = True
        self._ipos = model.body_ipos.copy()
        self._mass = model.body_mass.copy()
        self.total_mass = float(self._mass.sum())
        # Mass carried by each joint, for the centre of mass' Jacobian.
        self._carried = self._above.T * self._mass

    def update(self, pose: Pose) -> None:
        """Compute positions and rotations of all bodies, joint axes and anchors."""
        frames, bodies = len(pose), self.model.nbody
        self.pose = pose
        self.pos = np.zeros((frames, bodies, 3))
        self.mat = np.empty((frames, bodies, 3, 3))
        self.mat[:, 0] = np.eye(3)
        axes = np.zeros((frames, 3, NUM_DOF))
        axes[:, :, 3:6] = pose.mat
        anchors = np.zeros((frames, 3, NUM_DOF))
        anchors[:, :, 3:6] = pose.pos[:, :, None]
        self.pos[:, 1], self.mat[:, 1] = pose.pos, pose.mat
        for body in range(2, bodies):
            parent = self._parents[body]
            self.pos[:, body] = self.pos[:, parent] + self.mat[:, parent] @ self._offset[body]
            mat = self.mat[:, parent] @ self._turn[body]
            joint = self._joint_of[body]
            if joint >= 0:
                axis = self._axis[joint]
                axes[:, :, 6 + joint] = mat @ axis
                anchors[:, :, 6 + joint] = self.pos[:, body]
                mat = mat @ _hinge(axis, pose.joints[:, joint])
            self.mat[:, body] = mat
        self._axes, self._anchors = axes, anchors
        self._arm_const = cross_columns(axes, anchors)  # axis x anchor, so that J = axis x p - this

    def point(self, body: int, local: np.ndarray) -> np.ndarray:
        """Return a body-fixed point in the world, (T, 3)."""
        return self.pos[:, body] + self.mat[:, body] @ local

    def jac_point(self, body: int | np.ndarray, point: np.ndarray) -> np.ndarray:
        """Return d(point)/d(dof) (T, 3, 35) of world points (T, 3) fixed to ``body`` (one for all frames)."""
        jac = cross_columns(self._axes, point) - self._arm_const
        jac[:, :, 6:] *= self._above[body]
        jac[:, 0, 0] = jac[:, 1, 1] = jac[:, 2, 2] = 1.0
        return jac

    def jac_point_at(self, frames: np.ndarray, body: int, point: np.ndarray) -> np.ndarray:
        """Return the Jacobian (K, 3, 35) of points (K, 3) fixed to ``body``, at the frames (K,) only."""
        jac = cross_columns(self._axes[frames], point) - self._arm_const[frames]
        jac[:, :, 6:] *= self._above[body]
        jac[:, 0, 0] = jac[:, 1, 1] = jac[:, 2, 2] = 1.0
        return jac

    def jac_rot(self, body: int) -> np.ndarray:
        """Return the Jacobian (T, 3, 35) of the body's angular velocity in the world."""
        jac = self._axes.copy()
        jac[:, :, 6:] *= self._above[body]
        return jac

    def com(self) -> np.ndarray:
        """Return the centre of mass (T, 3) m."""
        self._body_com = self.pos + np.einsum('tbij,bj->tbi', self.mat, self._ipos)
        return np.einsum('b,tbi->ti', self._mass, self._body_com) / self.total_mass

    def jac_com(self) -> np.ndarray:
        """Return d(com)/d(dof) (T, 3, 35); call :meth:`com` first."""
        moment = np.einsum('jb,tbi->tij', self._carried, self._body_com)  # (T, 3, 29)
        mass = self._carried.sum(axis=1)
        jac = np.zeros_like(self._axes)
        axes = self._axes
        jac[:, :, 6:] = cross_columns(axes[:, :, 6:], moment) - mass * self._arm_const[:, :, 6:]
        whole = np.einsum('b,tbi->ti', self._mass, self._body_com)
        jac[:, :, 3:6] = cross_columns(axes[:, :, 3:6], whole) - self.total_mass * self._arm_const[:, :, 3:6]
        jac /= self.total_mass
        jac[:, 0, 0] = jac[:, 1, 1] = jac[:, 2, 2] = 1.0
        return jac


def _hinge(axis: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Return rotations (T, 3, 3) about a coordinate axis (the G1's hinges all are)."""
    k = int(np.argmax(np.abs(axis)))
    if abs(abs(axis[k]) - 1) > 1e-9:
        return rot.exp(angle[:, None] * axis)
    c, s = np.cos(angle), np.sin(angle) * axis[k]
    out = np.zeros((len(angle), 3, 3))
    i, j = (k + 1) % 3, (k + 2) % 3
    out[:, k, k] = 1.0
    out[:, i, i] = out[:, j, j] = c
    out[:, i, j], out[:, j, i] = -s, s
    return out
