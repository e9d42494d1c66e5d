"""Joint ranges and speeds a retargeted motion keeps to: inside the hardware's, with room for a controller."""

from __future__ import annotations

import numpy as np

from humanx_description.robot import JOINT_INDEX, JOINT_LOWER, JOINT_UPPER, VELOCITY_LIMIT

MARGIN = 0.02  # rad inside the hardware's range
SPEED_SHARE = 0.8  # of the motors' top speed
# A straight knee or elbow is singular: the limb locks, and the next frame's solution may fold the other way. The G1's
# forearm is in line with its upper arm at an elbow angle of 1.42 rad (the elbow axis is 16 mm in front); the legs are
# straight at a knee angle of 0.
KNEE_MIN = 0.12  # rad
ELBOW_MAX = 1.35  # rad
# The wrists turn far, but a person's do not, and wrists at their stops hold objects badly.
WRIST_MAX = 1.5  # rad, pitch and yaw


def _bounds() -> tuple[np.ndarray, np.ndarray]:
    lower, upper = JOINT_LOWER + MARGIN, JOINT_UPPER - MARGIN
    for side in ('left', 'right'):
        lower[JOINT_INDEX[f'{side}_knee_joint']] = KNEE_MIN
        upper[JOINT_INDEX[f'{side}_elbow_joint']] = ELBOW_MAX
        for axis in ('pitch', 'yaw'):
            joint = JOINT_INDEX[f'{side}_wrist_{axis}_joint']
            lower[joint], upper[joint] = -WRIST_MAX, WRIST_MAX
    return lower, upper


LOWER, UPPER = _bounds()
SPEED = SPEED_SHARE * VELOCITY_LIMIT
