"""A tool in the hand (a racket) neither scratches the floor nor hits the robot's own body.

The person of the source held another tool, or none: what their arm did is followed as far as the robot's tool allows.
Where it does not, the arm that holds it gives way: the smallest change of its joints that keeps the tool clear, spread
smoothly over the time around. Distances in m, joints in rad.
"""

from __future__ import annotations

import dataclasses

import mujoco
import numpy as np

from humanx_description import robot
from humanx_training.xgen.robot_motion import RobotMotion
from humanx_training.xgen.stage import Stage

MARGIN = 0.02  # m kept free
_WATCHED = 0.10  # m: what is nearer is kept from coming nearer than the margin while the arm gives way
_ROUNDS = 40
_REACH = 0.35  # s over which a change rises and falls


@dataclasses.dataclass(frozen=True)
class Near:
    """The nearest points of a tool and something else: ``gap`` (m) along ``normal`` (3,), at ``point`` (3,) of it."""

    gap: float
    tool: int  # body id
    other: int  # body id, 0: the floor
    point: np.ndarray
    normal: np.ndarray  # away from the other


class ToolGuard:
    """Finds what a stage's tools come near to. The hand that holds a tool, and what belongs to it, does not count."""

    def __init__(self, stage: Stage) -> None:
        self.stage, model = stage, stage.model
        bodies = [model.body(name).id for name in stage.tools]
        self._geoms = [g for g in range(model.ngeom) if model.geom_bodyid[g] in bodies]
        self._others = {g: [h for h in range(model.ngeom) if self._may_hit(g, h, bodies)] for g in self._geoms}

    def _may_hit(self, tool: int, other: int, tools: list[int]) -> bool:
        model = self.stage.model
        body, holder = int(model.geom_bodyid[other]), int(model.body_parentid[model.geom_bodyid[tool]])
        if body in tools:
            return False
        # The holding hand and the two bodies before it cannot be hit by what it holds.
        own = {holder}
        for _ in range(2):
            holder = int(model.body_parentid[holder])
            own.add(holder)
        return body not in own

    def near(self, qpos: np.ndarray, within: float) -> list[Near]:
        """Return what is nearer than ``within`` (m) in one configuration (36,)."""
        stage, model = self.stage, self.stage.model
        data = stage.pose(qpos)
        out, line = [], np.zeros(6)
        for geom in self._geoms:
            body = int(model.geom_bodyid[geom])
            for other in self._others[geom]:
                gap = mujoco.mj_geomDistance(model, data, geom, other, within, line)
                if gap >= within:
                    continue
                across = line[:3] - line[3:]
                length = float(np.linalg.norm(across))
                if model.geom_type[other] == mujoco.mjtGeom.mjGEOM_PLANE:
                    normal = data.geom_xmat[other].reshape(3, 3)[:, 2].copy()
                elif length > 1e-6:
                    normal = across / length * (1.0 if gap > 0 else -1.0)
                else:
                    continue
                out.append(Near(float(gap), body, int(model.geom_bodyid[other]), line[:3].copy(), normal))
        return out

    def worst(self, qpos: np.ndarray) -> tuple[float, int, str]:
        """Return the smallest gap (m; negative: inside; at most 0.1) over a motion (T, 36), its frame and with what."""
        least, frame, name = 0.1, 0, 'nothing'
        for t, q in enumerate(qpos):
            for found in self.near(q, least):
                if found.gap < least:
                    least, frame, name = found.gap, t, self.stage.model.body(found.other).name
        return least, frame, 'the floor' if name == 'world' else name


def clear_tools(motion: RobotMotion, stage: Stage) -> RobotMotion:
    """Return the motion with the holding arms moved so far that every tool stays clear of floor and body."""
    if not stage.tools:
        return motion
    guard, model = ToolGuard(stage), stage.model
    arms = [robot.LEFT_ARM, robot.RIGHT_ARM]
    joints = motion.joint_pos.copy()
    reach = max(2, round(_REACH * motion.fps))
    suspects = np.ones(len(joints), dtype=bool)  # frames that may be too near: all, then those around what was
    for _ in range(_ROUNDS):
        qpos = np.concatenate([motion.root_pos, motion.root_quat, joints], axis=1)
        extra = np.zeros_like(joints)
        for t in np.flatnonzero(suspects):
            q = qpos[t]
            found = guard.near(q, MARGIN + _WATCHED)
            if not found or min(f.gap for f in found) >= 0.5 * MARGIN:
                continue
            mujoco.mj_comPos(model, stage.data)
            for arm in arms:
                mine = [f for f in found if _held_by(model, f.tool, arm)]
                if mine:
                    extra[t, arm] = _give_way(stage, mine, arm, q[7:][arm])
        if not extra.any():
            break
        suspects = np.convolve(extra.any(axis=1), np.ones(2 * reach + 1), mode='same') > 0.5
        joints = np.clip(joints + _smooth(extra, reach), robot.JOINT_LOWER + 0.01, robot.JOINT_UPPER - 0.01)
    return dataclasses.replace(motion, joint_pos=joints)


def _smooth(extra: np.ndarray, reach: int) -> np.ndarray:
    """Return changes (T, N) averaged over ``reach`` frames to both sides, as large as they were where they are many."""
    kernel = np.hanning(2 * reach + 1)
    share = np.convolve(extra.any(axis=1), kernel, mode='same').max()
    return np.stack([np.convolve(c, kernel, mode='same') for c in extra.T], axis=1) / share


def _held_by(model: mujoco.MjModel, body: int, arm: slice) -> bool:
    last = int(model.jnt_bodyid[arm.stop])  # joint 0 is the free one
    while body and body != last:
        body = int(model.body_parentid[body])
    return body == last


def _give_way(stage: Stage, found: list[Near], arm: slice, joints: np.ndarray) -> np.ndarray:
    """Return the smallest step (7,) of an arm's joints that opens every gap to the margin (to first order)."""
    model, data = stage.model, stage.data
    dofs = np.arange(arm.start, arm.stop) + 6
    rows, gaps = [], []
    for near in found:
        jacobian = np.empty((3, model.nv))
        mujoco.mj_jac(model, data, jacobian, None, near.point, near.tool)
        rows.append(near.normal @ jacobian[:, dofs])
        gaps.append(near.gap - MARGIN)
    matrix, gap = np.array(rows), np.array(gaps)
    low, high = robot.JOINT_LOWER[arm] + 0.01 - joints, robot.JOINT_UPPER[arm] - 0.01 - joints
    active: np.ndarray = gap < 0
    step = np.zeros(len(dofs))
    for _ in range(6):
        part = matrix[active]
        # Damped: a gap that the arm can hardly change asks for no wild joints.
        step = part.T @ np.linalg.solve(part @ part.T + 1e-3 * np.eye(len(part)), -gap[active])
        step = np.clip(np.clip(step, -0.1, 0.1), np.minimum(low, 0), np.maximum(high, 0))
        entered = ~active & (gap + matrix @ step < 0)
        if not entered.any():
            break
        active |= entered
    return step
