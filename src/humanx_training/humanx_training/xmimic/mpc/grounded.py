"""A retargeted motion as a reference that its feet can carry: the centre of pressure stays under the planted soles.

Retargeting knows geometry only. Here inverse dynamics tells where the floor would have to push (the centre of
pressure); where that lies outside the planted soles, the body is moved sideways by the bounded solution of the linear
inverted pendulum, feet kept, and everything is computed again: Newton's method with the pendulum as its Jacobian.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from scipy.optimize import nnls

from humanx_description import robot
from humanx_training import rotation
from humanx_training.xgen import rotations as rot
from humanx_training.xgen.retarget.kinematics import Kinematics, Pose
from humanx_training.xgen.robot_motion import RobotMotion
from humanx_training.xgen.whole_body import follow
from humanx_training.xmimic.mpc import balance
from humanx_training.xmimic.mpc.inverse import BodySolver, velocities
from humanx_training.xmimic.mpc.reference import Reference, with_targets

DT = 0.01  # s
_SOLE = np.array([[x, y] for x in (-0.044, 0.122) for y in (-0.018, 0.018)])  # m, corners seen from the ankle
_MARGIN = 0.7  # of the sole's size: a centre of pressure at the edge tips the foot
_CLEARANCE = 0.03  # m, of a sole that moves along the floor
_RAMP = 0.06  # s in which a foot takes over or gives up the weight


@dataclass(frozen=True)
class Footing:
    """Where both feet are: ``pos`` (T, 2, 3), ``quat`` (T, 2, 4), and whether each is ``planted`` (T, 2)."""

    pos: np.ndarray
    quat: np.ndarray
    planted: np.ndarray

    def load(self) -> np.ndarray:
        """Return how much each foot may carry (T, 2): 1 planted, 0 in the air, ramps inside the planted time."""
        frames = round(_RAMP / DT)
        out = np.zeros(self.planted.shape)
        for foot in (0, 1):
            # Distance to the nearest frame in the air; beyond the ends the foot stays as it is.
            air = np.flatnonzero(~self.planted[:, foot])
            away = np.full(len(out), frames + 1)
            if len(air):
                away = np.abs(np.arange(len(out))[:, None] - air[None]).min(1)
            out[:, foot] = balance.smooth_step(away / (frames + 1))
        return out

    def corners(self, frame: int, shrink: float = _MARGIN) -> np.ndarray:
        """Return the corners (K, 2) of the planted soles at a frame, drawn toward their middles; both soles' where
        none is planted."""
        feet = np.flatnonzero(self.planted[frame])
        middle = _SOLE.mean(0)
        points = []
        for foot in feet if len(feet) else (0, 1):
            yaw = float(rotation.yaw(self.quat[frame, foot]))
            turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
            points.append(self.pos[frame, foot, :2] + (middle + shrink * (_SOLE - middle)) @ turn.T)
        return np.concatenate(points)


def footing(solver: BodySolver, qpos: np.ndarray, planted: np.ndarray) -> Footing:
    """Return the feet of (T, 36) positions; a planted foot is flat and still for as long as it is planted."""
    pos, quat = np.zeros((len(qpos), 2, 3)), np.zeros((len(qpos), 2, 4))
    for t, frame in enumerate(qpos):
        for foot in (0, 1):
            pos[t, foot], quat[t, foot] = solver.foot_pose(frame, foot)
    for foot in (0, 1):
        edges = np.flatnonzero(np.diff(np.r_[0, planted[:, foot].astype(int), 0]))
        for a, b in zip(edges[::2], edges[1::2]):
            yaw = rotation.yaw(quat[a:b, foot])
            mean = np.arctan2(np.sin(yaw).mean(), np.cos(yaw).mean())
            place = np.append(pos[a:b, foot, :2].mean(0), robot.FOOT_SOLE_OFFSET)
            flat = rotation.from_yaw(np.array([mean]))[0]
            # The air phases beside it are bent to meet the place, so that nothing jumps.
            for edge, rows in ((a, range(a - 1, -1, -1)), (b - 1, range(b, len(qpos)))):
                offset = place - pos[edge, foot]
                turn = rotation.log(rotation.multiply(flat, rotation.conjugate(quat[edge, foot])))
                for count, row in enumerate(rows, 1):
                    if planted[row, foot] or count > 15:
                        break
                    share = 1.0 - float(balance.smooth_step(count / 16))
                    pos[row, foot] += share * offset
                    quat[row, foot] = rotation.multiply(rotation.exp(share * turn), quat[row, foot])
            pos[a:b, foot], quat[a:b, foot] = place, flat
    return Footing(_cleared(pos, quat, planted), quat, planted)


def _cleared(pos: np.ndarray, quat: np.ndarray, planted: np.ndarray) -> np.ndarray:
    """Return the feet's paths (T, 2, 3) raised so that a foot that moves along the floor is off it."""
    pos = pos.copy()
    corners = np.concatenate([_SOLE, np.full((4, 1), -robot.FOOT_SOLE_OFFSET)], 1)
    for foot in (0, 1):
        speed = np.linalg.norm(np.gradient(pos[:, foot, :2], DT, axis=0), axis=-1)
        wanted = _CLEARANCE * balance.smooth_step((speed - 0.1) / 0.4)
        height = pos[:, foot, 2] + np.einsum('tij,cj->tci', rotation.to_matrix(quat[:, foot]), corners)[..., 2].min(1)
        lift = np.maximum(wanted - height, 0.0) * ~planted[:, foot]
        # The highest wish within 40 ms, then smoothed: an envelope, not a row of bumps; zero where planted.
        reach = 4
        padded = np.pad(lift, reach)
        spread = np.max([padded[k : k + len(lift)] for k in range(2 * reach + 1)], 0)
        pos[:, foot, 2] += balance.gaussian_filter(spread, 2.0) * ~planted[:, foot]
    return pos


def centre_of_pressure(solver: BodySolver, qpos: np.ndarray, qvel: np.ndarray, qacc: np.ndarray) -> np.ndarray:
    """Return where on the floor (T, 2) the one force that explains each frame's motion would act."""
    out = np.zeros((len(qpos), 2))
    model = solver.model
    inertia = np.zeros((model.nv, model.nv))
    for t in range(len(qpos)):
        data = solver.kinematics(qpos[t])
        data.qvel[:] = qvel[t]
        mujoco.mj_fwdPosition(model, data)
        mujoco.mj_fwdVelocity(model, data)
        mujoco.mj_fullM(model, data, inertia)
        needed = (inertia @ qacc[t] + data.qfrc_bias)[:6]
        force = needed[:3]
        # The free joint's torque acts in the pelvis' own axes.
        moment = data.xmat[solver.root].reshape(3, 3) @ needed[3:6]
        root = qpos[t, :3]
        up = max(force[2], 0.2 * model.body_mass.sum() * balance.GRAVITY)
        out[t, 0] = root[0] - (moment[1] + root[2] * force[0]) / up
        out[t, 1] = root[1] + (moment[0] - root[2] * force[1]) / up
    return out


def inside(point: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Return the point (2,) of the corners' (K, 2) convex hull that is nearest to ``point`` (2,)."""
    heavy = 1e3  # holds the weights' sum at 1
    weights, _ = nnls(np.vstack([(corners - point).T, np.full((1, len(corners)), heavy)]), np.array([0, 0, heavy]))
    return weights @ corners / max(weights.sum(), 1e-9)


def grounded(
    solver: BodySolver, motion: RobotMotion, first: int, last: int, *, sweeps: int = 4, smooth: float = 0.025
) -> Reference:
    """Return frames ``first`` to ``last`` of a motion (at 100 Hz) as a reference whose feet can carry it.

    ``smooth`` (s) is the width of the Gaussian that takes the retargeting's jerks out of everything but the feet.
    ``notes`` say how far the centre of pressure was and is outside the soles (m), and how far the body was moved.
    """
    planted = motion.foot_contact[first:last].copy()
    raw = motion.qpos()[first:last].astype(float)
    feet = footing(solver, raw, planted)
    kin, mats = Kinematics(), rotation.to_matrix(feet.quat)
    qpos = raw.copy()
    qpos[:, 3:7] = rotation.continuous(qpos[:, 3:7])
    qpos = balance.gaussian_filter(qpos, smooth / DT)
    qpos[:, 3:7] /= np.linalg.norm(qpos[:, 3:7], axis=1, keepdims=True)
    qpos = _follow(kin, qpos, feet, mats, None)
    supports = [feet.corners(t) for t in range(len(qpos))]
    outside: list[float] = []
    best = qpos
    begin = centres = np.array([solver.centre_of_mass(q) for q in qpos])
    height = float(centres[:, 2].mean())
    for sweep in range(sweeps + 1):
        qvel = velocities(qpos, DT)
        qacc = balance.gaussian_filter(np.gradient(qvel, DT, axis=0), 2.0)
        pressure = centre_of_pressure(solver, qpos, qvel, qacc)
        inner = np.array([inside(p, s) for p, s in zip(pressure, supports)])
        gap = inner - pressure
        outside.append(float(np.linalg.norm(gap, axis=1).mean()))
        if outside[-1] <= min(outside):
            best, wanted, moved = qpos, inner, float(np.linalg.norm((centres - begin)[:, :2], axis=1).max())
        if sweep == sweeps or outside[-1] > 2 * min(outside):
            break
        shift = balance.centre_of_mass_plan(balance.gaussian_filter(gap, 2.0), height, DT)
        qpos = qpos.copy()
        qpos[:, :2] += shift
        qpos = _follow(kin, qpos, feet, mats, centres[:, :2] + shift)
        centres = np.array([solver.centre_of_mass(q) for q in qpos])
    notes = {
        'pressure_outside_m': [round(outside[0], 4), round(min(outside), 4)],
        'moved_m': round(moved, 4),
    }
    return with_targets(solver, best, _shares(feet, wanted), 0, DT, notes)


def _follow(
    kin: Kinematics, qpos: np.ndarray, feet: Footing, mats: np.ndarray, centre: np.ndarray | None
) -> np.ndarray:
    """Return the motion with its feet on their paths and its centre of mass over ``centre`` (T, 2)."""
    pose = Pose(qpos[:, :3], rotation.to_matrix(qpos[:, 3:7]), qpos[:, 7:])
    solved = follow(kin, pose, feet.pos, mats, fps=1 / DT, com=centre, iterations=6)
    return np.concatenate([solved.pos, rotation.continuous(rot.mat_to_quat(solved.mat)), solved.joints], 1)


def _shares(feet: Footing, pressure: np.ndarray) -> np.ndarray:
    """Return the load on each foot (T, 2): by where the centre of pressure lies between two planted feet."""
    load = feet.load()
    yaw = rotation.yaw(feet.quat.reshape(-1, 4)).reshape(-1, 2)
    middle = feet.pos[:, :, :2] + _SOLE[:, 0].mean() * np.stack([np.cos(yaw), np.sin(yaw)], -1)
    along = middle[:, 1] - middle[:, 0]
    share = ((pressure - middle[:, 0]) * along).sum(1) / np.maximum((along**2).sum(1), 1e-6)
    share = np.clip(share, 0.02, 0.98)
    load = load * np.stack([1 - share, share], 1)
    total = load.sum(1, keepdims=True)
    return np.where(total > 1e-3, load / np.maximum(total, 1e-3), 0.0)
