"""The joint order of the public HumanX release and of Isaac Lab: breadth first, left and right alternating."""

from __future__ import annotations

import numpy as np

from humanx_description.robot import JOINT_INDEX, JOINT_NAMES

_LEG = ('hip_pitch', 'hip_roll', 'hip_yaw', 'knee', 'ankle_pitch', 'ankle_roll')
_ARM = (
    'shoulder_pitch', 'shoulder_roll', 'shoulder_yaw', 'elbow', 'wrist_roll', 'wrist_pitch', 'wrist_yaw',
)  # fmt: skip
_WAIST = ('waist_yaw', 'waist_roll', 'waist_pitch')


def _breadth_first() -> tuple[str, ...]:
    """Return the 29 names level by level down the kinematic tree: left leg, right leg, waist; the arms below the
    waist."""
    out: list[str] = []
    for depth in range(10):
        for side in ('left', 'right'):
            if depth < len(_LEG):
                out.append(f'{side}_{_LEG[depth]}_joint')
        if depth < 3:
            out.append(f'{_WAIST[depth]}_joint')
        if 3 <= depth < 10:
            out += [f'{side}_{_ARM[depth - 3]}_joint' for side in ('left', 'right')]
    return tuple(out)


INTERLEAVED_NAMES = _breadth_first()
_TO_UNITREE = np.array([INTERLEAVED_NAMES.index(n) for n in JOINT_NAMES])
_FROM_UNITREE = np.array([JOINT_INDEX[n] for n in INTERLEAVED_NAMES])


def from_interleaved(joint_pos: np.ndarray) -> np.ndarray:
    """Return (T, 29) in Unitree motor order, given columns in interleaved order."""
    return joint_pos[:, _TO_UNITREE]


def to_interleaved(joint_pos: np.ndarray) -> np.ndarray:
    """Return (T, 29) in interleaved order, given columns in Unitree motor order."""
    return joint_pos[:, _FROM_UNITREE]
