"""Per-frame inverse kinematics with ``mink``: each frame from the one before. The refinement starts from its result."""

from __future__ import annotations

import mink
import numpy as np

from humanx_description.robot import DEFAULT_JOINT_POS, FOOT_BODIES
from humanx_training.xgen import rotations as rot
from humanx_training.xgen.retarget import limits
from humanx_training.xgen.retarget.keypoints import SIDES, Targets
from humanx_training.xgen.retarget.kinematics import Kinematics, Pose
from humanx_training.xgen.retarget.plan import FootPlan
from humanx_training.xgen.retarget.refine import SOLE_BELOW_ANKLE

FIRST_ITERATIONS = 40  # the first frame starts from the default pose
ITERATIONS = 2  # every other frame starts from its neighbour
# Position and orientation costs (mink's: error times cost) per keypoint.
_COSTS = {'knee': 2.0, 'elbow': 4.0, 'wrist': 5.0, 'hand': 4.0}


def frame_by_frame(kin: Kinematics, targets: Targets, feet: FootPlan, fps: float) -> Pose:
    """Return poses (T frames of the targets) that follow the targets one frame after the other."""
    model = kin.model
    configuration = mink.Configuration(model)
    qpos = np.concatenate([targets.pelvis_pos[0], rot.mat_to_quat(targets.pelvis_mat[0]), DEFAULT_JOINT_POS])
    configuration.update(qpos)
    tasks = _tasks()
    posture = mink.PostureTask(model, cost=np.concatenate([np.zeros(6), np.full(29, 0.05)]))
    posture.set_target(qpos)
    stops = [_range_limit(model)]
    out = np.empty((len(targets), 36))
    goals = _goals(targets, feet)
    for frame in range(len(targets)):
        for name, task in tasks.items():
            mat, pos = goals[name]
            task.set_target(mink.SE3.from_rotation_and_translation(mink.SO3.from_matrix(mat[frame]), pos[frame]))
        for _ in range(FIRST_ITERATIONS if frame == 0 else ITERATIONS):
            velocity = mink.solve_ik(
                configuration, [*tasks.values(), posture], 1 / fps, solver='daqp', damping=1e-2, limits=stops
            )
            configuration.integrate_inplace(velocity, 1 / fps)
        out[frame] = configuration.q
    return Pose(out[:, :3].copy(), rot.quat_to_mat(out[:, 3:7]), np.clip(out[:, 7:], limits.LOWER, limits.UPPER))


def _range_limit(model) -> mink.ConfigurationLimit:
    """Return mink's joint range limit, on this project's narrower ranges."""
    stop = mink.ConfigurationLimit(model)
    stop.lower[7:], stop.upper[7:] = limits.LOWER, limits.UPPER
    return stop


def _tasks() -> dict[str, mink.FrameTask]:
    def task(body: str, kind: str, position: float, orientation: float) -> mink.FrameTask:
        return mink.FrameTask(body, kind, position_cost=position, orientation_cost=orientation, lm_damping=0.1)

    out = {
        'pelvis': task('pelvis', 'body', 2.0, 1.0),
        'torso': task('torso_link', 'body', 0.0, 1.0),
    }
    for side, foot in zip(SIDES, FOOT_BODIES):
        out[f'{side}_foot'] = task(foot, 'body', 20.0, 2.0)
        out[f'{side}_knee'] = task(f'{side}_knee_link', 'body', _COSTS['knee'], 0.0)
        out[f'{side}_elbow'] = task(f'{side}_elbow_link', 'body', _COSTS['elbow'], 0.0)
        out[f'{side}_wrist'] = task(f'{side}_wrist_pitch_link', 'body', _COSTS['wrist'], 0.0)
        out[f'{side}_hand'] = task(f'{side}_palm', 'site', _COSTS['hand'], 0.1)
    return out


def _goals(targets: Targets, feet: FootPlan) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return orientation (T, 3, 3) and position (T, 3) of each task's frame."""
    level = np.tile(np.eye(3), (len(targets), 1, 1))
    out = {
        'pelvis': (targets.pelvis_mat, targets.pelvis_pos),
        'torso': (targets.torso_mat, targets.pelvis_pos),
    }
    for index, side in enumerate(SIDES):
        sole = feet.pos[:, index] + feet.mat[:, index] @ SOLE_BELOW_ANKLE
        out[f'{side}_foot'] = (feet.mat[:, index], sole)
        for name in ('knee', 'elbow', 'wrist'):
            out[f'{side}_{name}'] = (level, targets.points[f'{side}_{name}'])
        out[f'{side}_hand'] = (targets.hand_mat[:, index], targets.points[f'{side}_hand'])
    return out
