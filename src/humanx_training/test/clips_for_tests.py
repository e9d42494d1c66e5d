"""Clips made up for tests."""

import numpy as np

from humanx_description import robot
from humanx_description.objects import ObjectSpec
from humanx_training.clip import InteractionClip, shape_of

BALL = ObjectSpec('ball', 'sphere', (0.11,), mass=0.43, rolling_rate=0.1)


def standing(frames: int = 120, *, ball: bool = True, sway: float = 0.0, radius: float = 0.11,
             arms: float = 0.0) -> InteractionClip:
    """Return a stance in the default pose, arms swaying, a ball rolling by at 0.5 m/s; the left foot 'touches' late.

    ``arms`` (rad) raises both elbows above the default pose.
    """
    joints = np.tile(robot.DEFAULT_JOINT_POS, (frames, 1))
    joints[:, robot.JOINT_INDEX['left_elbow_joint']] += sway * np.sin(np.arange(frames) * 0.1)
    joints[:, [robot.JOINT_INDEX['left_elbow_joint'], robot.JOINT_INDEX['right_elbow_joint']]] -= arms
    root = np.tile([0.0, 0.0, 0.745], (frames, 1))
    still = np.tile([1.0, 0.0, 0.0, 0.0], (frames, 1))
    if not ball:
        none = np.zeros((frames, 0), bool)
        return InteractionClip(100.0, root, still, joints, '', {}, np.zeros((frames, 3)), still, none, ())
    spec = ObjectSpec('ball', 'sphere', (radius,), mass=0.43, rolling_rate=0.1)
    position = np.tile([1.5, 0.4, radius], (frames, 1))
    position[:, 0] -= 0.005 * np.arange(frames)
    contact = np.zeros((frames, 2), bool)
    contact[frames // 2 :, 0] = True
    return InteractionClip(
        100.0, root, still, joints, 'ball', shape_of(spec), position, still, contact, robot.FOOT_BODIES
    )
