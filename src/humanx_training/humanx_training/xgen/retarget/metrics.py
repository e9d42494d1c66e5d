"""What a retargeted motion measures, with MuJoCo as the judge: the table of the retargeting benchmark."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import mujoco
import numpy as np

from humanx_description.robot import FOOT_BODIES, JOINT_LOWER, JOINT_UPPER, VELOCITY_LIMIT
from humanx_training.xgen import rotations as rot
from humanx_training.xgen.retarget import terms
from humanx_training.xgen.retarget.footing import runs
from humanx_training.xgen.retarget.keypoints import KEYPOINTS, Targets
from humanx_training.xgen.retarget.kinematics import Kinematics, Pose, g1_spec
from humanx_training.xgen.robot_motion import RobotMotion

SKATE_WINDOW = 0.1  # s


@dataclass(frozen=True)
class Measures:
    """Worst cases over the motion unless named mean. Stance figures are over the frames in which a foot stands."""

    keypoint_mean_cm: float  # 12 keypoints, frames of the person's motion, against the scaled targets
    keypoint_max_cm: float
    skate_cm_per_100ms: float  # farthest any corner of a standing sole moves along the floor within 0.1 s
    tilt_deg: float  # of a standing sole
    float_mm: float  # lowest corner of a standing sole above the floor
    sink_mm: float  # any collision shape below the floor
    self_penetration_mm: float
    range_excess_rad: float  # beyond the hardware's joint range; 0 when kept
    speed_ratio: float  # fastest joint over its motor's top speed
    arm_locked_share: float  # share of frames with an arm joint within 0.5 degrees of the hardware's stop
    peak_speed_kept: float  # hands and feet: fastest keypoint of the robot over that of the target

    def as_dict(self) -> dict[str, float]:
        return {k: round(float(v), 4) for k, v in asdict(self).items()}


def measure(motion: RobotMotion, targets: Targets, kin: Kinematics | None = None) -> Measures:
    """Measure a motion; ``targets`` belong to its frames ``clip_start`` to ``clip_stop``."""
    kin = kin or Kinematics()
    kin.update(Pose(motion.root_pos, rot.quat_to_mat(motion.root_quat), motion.joint_pos))
    clip = slice(motion.clip_start, motion.clip_stop)
    errors, peaks = [], []
    for name, (body, local) in KEYPOINTS.items():
        path = kin.point(kin.body_index[body], np.array(local))[clip]
        errors.append(np.linalg.norm(path - targets.points[name], axis=1))
        if name.endswith(('hand', 'ankle')):
            peaks.append((_top_speed(path, motion.fps), _top_speed(targets.points[name], motion.fps)))
    fastest = max(peaks, key=lambda pair: pair[1])
    skate, tilt, lift = _feet(kin, motion)
    sink, penetration = _contacts(motion)
    excess = np.maximum(JOINT_LOWER - motion.joint_pos, motion.joint_pos - JOINT_UPPER).max()
    arms = motion.joint_pos[:, 15:]
    stop = np.deg2rad(0.5)
    locked = ((arms < JOINT_LOWER[15:] + stop) | (arms > JOINT_UPPER[15:] - stop)).any(axis=1)
    return Measures(
        keypoint_mean_cm=100 * np.mean(errors),
        keypoint_max_cm=100 * np.max(errors),
        skate_cm_per_100ms=100 * skate,
        tilt_deg=tilt,
        float_mm=1000 * lift,
        sink_mm=1000 * sink,
        self_penetration_mm=1000 * penetration,
        range_excess_rad=max(0.0, float(excess)),
        speed_ratio=float((np.abs(np.diff(motion.joint_pos, axis=0)) * motion.fps / VELOCITY_LIMIT).max()),
        arm_locked_share=float(locked.mean()),
        peak_speed_kept=fastest[0] / max(fastest[1], 1e-6),
    )


def support_margin(motion: RobotMotion, frame: int) -> float:
    """Return how far (m) the centre of mass is inside the support in a frame; negative outside, -inf in the air."""
    kin = Kinematics()
    kin.update(
        Pose(
            motion.root_pos[frame : frame + 1],
            rot.quat_to_mat(motion.root_quat[frame : frame + 1]),
            motion.joint_pos[frame : frame + 1],
        )
    )
    feet = [kin.body_index[name] for name in FOOT_BODIES]
    polygon = terms.support_polygon(kin.pos[0, feet], kin.mat[0, feet], motion.foot_contact[frame])
    if polygon is None:
        return -np.inf
    edge = np.roll(polygon, -1, axis=0) - polygon
    normal = np.stack([edge[:, 1], -edge[:, 0]], axis=1) / np.linalg.norm(edge, axis=1)[:, None]
    return float(-np.einsum('ei,ei->e', normal, kin.com()[0, :2] - polygon).max())


def _top_speed(path: np.ndarray, fps: float) -> float:
    return float(np.linalg.norm(np.diff(path, axis=0), axis=1).max() * fps) if len(path) > 1 else 0.0


def _feet(kin: Kinematics, motion: RobotMotion) -> tuple[float, float, float]:
    skate = tilt = lift = 0.0
    window = max(1, round(SKATE_WINDOW * motion.fps))
    for side, body in enumerate(FOOT_BODIES):
        index = kin.body_index[body]
        corners = np.stack([kin.point(index, c) for c in terms.SOLE[:4]], axis=1)  # (T, 4, 3)
        angle = np.rad2deg(np.arccos(np.clip(kin.mat[:, index, 2, 2], -1, 1)))
        for start, stop in runs(motion.foot_contact[:, side]):
            part = corners[start:stop]
            tilt = max(tilt, float(angle[start:stop].max()))
            lift = max(lift, float(part[:, :, 2].min(axis=1).max()))
            for shift in range(1, min(window, len(part) - 1) + 1):
                moved = np.linalg.norm(part[shift:, :, :2] - part[:-shift, :, :2], axis=2)
                skate = max(skate, float(moved.max()))
    return skate, tilt, lift


def _contacts(motion: RobotMotion) -> tuple[float, float]:
    """Return the deepest penetration (m) of the floor and of the robot itself, by MuJoCo's collision detection."""
    model, floor = _model_with_floor()
    data = mujoco.MjData(model)
    sink = penetration = 0.0
    for qpos in motion.qpos():
        data.qpos[:] = qpos
        mujoco.mj_kinematics(model, data)
        mujoco.mj_collision(model, data)
        for contact in data.contact[: data.ncon]:
            if floor in contact.geom:
                sink = max(sink, -float(contact.dist))
            else:
                penetration = max(penetration, -float(contact.dist))
    return sink, penetration


def _model_with_floor() -> tuple[mujoco.MjModel, int]:
    spec = g1_spec()
    spec.worldbody.add_geom(name='floor', type=mujoco.mjtGeom.mjGEOM_PLANE, size=[50, 50, 0.1])
    model = spec.compile()
    return model, model.geom('floor').id
