"""Leg inverse kinematics and inverse dynamics of a motion with planned footholds."""

from __future__ import annotations

import mujoco
import numpy as np

from humanx_description import robot
from humanx_training import rotation

_LEGS = (robot.LEFT_LEG, robot.RIGHT_LEG)
_ROTATION_WEIGHT = 0.3  # m/rad: a foot is 0.3 m long, so its tip moves as much as its origin
# Legs stay well inside their ranges: a hip turned by more than 100 degrees is another branch of the solution.
_LOWER = np.maximum(robot.JOINT_LOWER, -1.8)
_UPPER = np.minimum(robot.JOINT_UPPER, 2.2)


class BodySolver:
    """Kinematics and dynamics of one G1, frame by frame. ``model`` is a scene without objects (nq 36)."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self.model = model
        self.data = mujoco.MjData(model)
        self.feet = [model.body(name).id for name in robot.FOOT_BODIES]
        self.root = model.body(robot.ROOT_BODY).id
        self._jac_pos = np.zeros((3, model.nv))
        self._jac_rot = np.zeros((3, model.nv))

    def kinematics(self, qpos: np.ndarray) -> mujoco.MjData:
        """Set (36,) positions and return the data with body poses and centres of mass."""
        self.data.qpos[:] = qpos
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        return self.data

    def centre_of_mass(self, qpos: np.ndarray) -> np.ndarray:
        """Return the whole body's centre of mass (3,), world frame, m."""
        return self.kinematics(qpos).subtree_com[self.root].copy()

    def foot_pose(self, qpos: np.ndarray, foot: int) -> tuple[np.ndarray, np.ndarray]:
        """Return position (3,) and quaternion (4,) of foot 0 (left) or 1 (right), world frame."""
        data = self.kinematics(qpos)
        return data.xpos[self.feet[foot]].copy(), data.xquat[self.feet[foot]].copy()

    def place_feet(
        self, qpos: np.ndarray, positions: np.ndarray, quats: np.ndarray, iterations: int = 12
    ) -> tuple[np.ndarray, float]:
        """Return ``qpos`` with leg joints that put the feet at ``positions`` (2, 3) and ``quats`` (2, 4), and the worst
        remaining position error (m). Damped least squares, joint limits kept."""
        qpos = qpos.copy()
        worst = 0.0
        for _ in range(iterations):
            data = self.kinematics(qpos)
            worst = 0.0
            for foot, leg in enumerate(_LEGS):
                body = self.feet[foot]
                error_pos = positions[foot] - data.xpos[body]
                error_rot = rotation.log(
                    rotation.multiply(quats[foot], rotation.conjugate(data.xquat[body].copy()))
                )
                mujoco.mj_jacBody(self.model, data, self._jac_pos, self._jac_rot, body)
                columns = slice(6 + leg.start, 6 + leg.stop)
                jac = np.vstack([self._jac_pos[:, columns], _ROTATION_WEIGHT * self._jac_rot[:, columns]])
                error = np.concatenate([error_pos, _ROTATION_WEIGHT * error_rot])
                # More damping far from the goal: an unreachable foot must not throw the leg into another branch.
                damping = 1e-6 + 0.1 * float(error @ error)
                step = np.linalg.solve(jac.T @ jac + damping * np.eye(6), jac.T @ error)
                joints = slice(7 + leg.start, 7 + leg.stop)
                qpos[joints] = np.clip(
                    qpos[joints] + np.clip(step, -0.3, 0.3), _LOWER[leg] + 0.01, _UPPER[leg] - 0.01
                )
                worst = max(worst, float(np.linalg.norm(error_pos)))
        return qpos, worst

    def motor_torque(
        self, qpos: np.ndarray, qvel: np.ndarray, qacc: np.ndarray, load: tuple[float, float]
    ) -> tuple[np.ndarray, float]:
        """Return the joint torques (29,) of a motion frame and the unexplained root wrench (N).

        The feet's contact wrenches are the least ones that carry the root, foot ``i`` weighted by ``load[i]`` in
        [0, 1] (0: in the air). Joint damping of the servos is not included.
        """
        data = self.kinematics(qpos)
        data.qvel[:] = qvel
        data.qacc[:] = qacc
        mujoco.mj_fwdPosition(self.model, data)
        mujoco.mj_fwdVelocity(self.model, data)
        inertia = np.zeros((self.model.nv, self.model.nv))
        mujoco.mj_fullM(self.model, data, inertia)
        needed = inertia @ qacc + data.qfrc_bias - data.qfrc_passive
        blocks, scales = [], []
        for foot, weight in enumerate(load):
            if weight <= 1e-3:
                continue
            # The wrench acts at the middle of the sole; a moment costs as a force at 5 cm.
            point = data.xpos[self.feet[foot]] + data.xmat[self.feet[foot]].reshape(3, 3) @ _SOLE_CENTRE
            mujoco.mj_jac(self.model, data, self._jac_pos, self._jac_rot, point, self.feet[foot])
            blocks.append(np.vstack([self._jac_pos, self._jac_rot]).T)
            scales.append(np.sqrt(weight) * np.array([1, 1, 1, 0.05, 0.05, 0.03]))
        if not blocks:
            return needed[6:], float(np.linalg.norm(needed[:3]))
        jac = np.hstack(blocks)
        scale = np.concatenate(scales)
        wrench = scale * np.linalg.lstsq(jac[:6] * scale, needed[:6], rcond=None)[0]
        residual = needed - jac @ wrench
        return residual[6:], float(np.linalg.norm(residual[:3]))


_SOLE_CENTRE = np.array([0.04, 0.0, -robot.FOOT_SOLE_OFFSET])


def velocities(qpos: np.ndarray, dt: float) -> np.ndarray:
    """Return (T, 35) velocities of (T, 36) positions by central differences (root rotation in the body frame)."""
    qvel = np.zeros((len(qpos), 35))
    qvel[:, :3] = np.gradient(qpos[:, :3], dt, axis=0)
    turn = rotation.log(rotation.multiply(rotation.conjugate(qpos[:-1, 3:7]), qpos[1:, 3:7])) / dt
    qvel[1:-1, 3:6] = 0.5 * (turn[1:] + turn[:-1])
    qvel[0, 3:6], qvel[-1, 3:6] = turn[0], turn[-1]
    qvel[:, 6:] = np.gradient(qpos[:, 7:], dt, axis=0)
    return qvel
