"""The robot seen in a mirror (left and right exchanged): its kicks with the left foot are those with the right one."""

from __future__ import annotations

import numpy as np

from humanx_description import robot

_FLIPPED = ('roll_joint', 'yaw_joint')


def _joint_map() -> tuple[np.ndarray, np.ndarray]:
    source, sign = [], []
    for name in robot.JOINT_NAMES:
        if name.startswith('left'):
            other = 'right' + name[4:]
        elif name.startswith('right'):
            other = 'left' + name[5:]
        else:
            other = name
        source.append(robot.JOINT_INDEX[other])
        sign.append(-1.0 if name.endswith(_FLIPPED) else 1.0)
    return np.array(source), np.array(sign)


JOINT_SOURCE, JOINT_SIGN = _joint_map()
_POSITION = np.array([1.0, -1.0, 1.0])
_QUATERNION = np.array([1.0, -1.0, 1.0, -1.0])
_ANGULAR = np.array([-1.0, 1.0, -1.0])


def joints(values: np.ndarray) -> np.ndarray:
    """Mirror joint values (..., 29)."""
    return values[..., JOINT_SOURCE] * JOINT_SIGN


def qpos(values: np.ndarray) -> np.ndarray:
    """Mirror robot positions (..., 36) at the plane y = 0."""
    return np.concatenate(
        [values[..., :3] * _POSITION, values[..., 3:7] * _QUATERNION, joints(values[..., 7:36])], -1
    )


def qvel(values: np.ndarray) -> np.ndarray:
    """Mirror robot velocities (..., 35): linear in the world, angular in the body."""
    return np.concatenate(
        [values[..., :3] * _POSITION, values[..., 3:6] * _ANGULAR, joints(values[..., 6:35])], -1
    )
