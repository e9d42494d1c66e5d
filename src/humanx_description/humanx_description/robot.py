"""The Unitree G1 with 29 joints: names, limits, motors, gains, default pose.

Everything is in the Unitree motor order (``unitree_hg``), which is also the joint order of the MuJoCo model and the
actuator order of :func:`humanx_description.scene.scene`. Angles in rad, torques in N m, velocities in rad/s, gains in
N m/rad and N m s/rad. This module imports nothing heavier than numpy, so that it can be used on the robot.

Sources: joint ranges and efforts from the vendor's G1 29-joint model; rotor inertias and gears from the G1
constants of mjlab; gains ``kp = armature (2 pi 10 Hz)^2``, ``kd = 2 * 2 * armature * 2 pi 10 Hz`` and action scale
``0.25 effort / kp`` as recent motion trackers use them.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Motor:
    """One motor type behind its gear, seen from the joint side."""

    armature: float  # reflected rotor inertia, kg m^2
    effort: float  # N m
    velocity: float  # rad/s


def _two_stage_planetary(rotor: tuple[float, float, float], gear: tuple[float, float]) -> float:
    """Return the inertia of a two-stage planetary gear's rotors, reflected to the joint (kg m^2)."""
    first, second = gear
    return rotor[0] * (first * second) ** 2 + rotor[1] * second**2 + rotor[2]


_M5020 = Motor(_two_stage_planetary((0.139e-4, 0.017e-4, 0.169e-4), (1 + 46 / 18, 1 + 56 / 16)), 25.0, 37.0)
_M7520_14 = Motor(_two_stage_planetary((0.489e-4, 0.098e-4, 0.533e-4), (4.5, 1 + 48 / 22)), 88.0, 32.0)
_M7520_22 = Motor(_two_stage_planetary((0.489e-4, 0.109e-4, 0.738e-4), (4.5, 5.0)), 139.0, 20.0)
_M4010 = Motor(_two_stage_planetary((0.068e-4, 0.0, 0.0), (5.0, 5.0)), 5.0, 22.0)
# Ankles and waist roll/pitch are driven by two 5020 through a parallel linkage, taken as 1:1.
_M5020_PAIR = Motor(2 * _M5020.armature, 50.0, 37.0)

_LEG = (
    ('hip_pitch', _M7520_14, (-2.5307, 2.8798), -0.312),
    ('hip_roll', _M7520_22, (-0.5236, 2.9671), 0.0),
    ('hip_yaw', _M7520_14, (-2.7576, 2.7576), 0.0),
    ('knee', _M7520_22, (-0.087267, 2.8798), 0.669),
    ('ankle_pitch', _M5020_PAIR, (-0.87267, 0.5236), -0.363),
    ('ankle_roll', _M5020_PAIR, (-0.2618, 0.2618), 0.0),
)
_WAIST = (
    ('waist_yaw', _M7520_14, (-2.618, 2.618), 0.0),
    ('waist_roll', _M5020_PAIR, (-0.52, 0.52), 0.0),
    ('waist_pitch', _M5020_PAIR, (-0.52, 0.52), 0.0),
)
_ARM = (
    ('shoulder_pitch', _M5020, (-3.0892, 2.6704), 0.2),
    ('shoulder_roll', _M5020, (-1.5882, 2.2515), 0.2),
    ('shoulder_yaw', _M5020, (-2.618, 2.618), 0.0),
    ('elbow', _M5020, (-1.0472, 2.0944), 0.6),
    ('wrist_roll', _M5020, (-1.97222, 1.97222), 0.0),
    ('wrist_pitch', _M4010, (-1.61443, 1.61443), 0.0),
    ('wrist_yaw', _M4010, (-1.61443, 1.61443), 0.0),
)


def _side(side: str, rows: tuple) -> list[tuple[str, Motor, tuple[float, float], float]]:
    out = []
    for name, motor, (lower, upper), default in rows:
        mirrored = name.endswith('roll') and not name.startswith(('ankle', 'wrist'))
        if side == 'right' and mirrored:
            lower, upper, default = -upper, -lower, -default
        out.append((f'{side}_{name}_joint', motor, (lower, upper), default))
    return out


_ROWS = (
    _side('left', _LEG)
    + _side('right', _LEG)
    + [(f'{n}_joint', m, r, d) for n, m, r, d in _WAIST]
    + _side('left', _ARM)
    + _side('right', _ARM)
)


def _column(values: list[float]) -> np.ndarray:
    array = np.array(values, dtype=np.float64)
    array.setflags(write=False)
    return array


NATURAL_FREQUENCY = 2 * np.pi * 10.0  # rad/s, of the position loop
DAMPING_RATIO = 2.0

JOINT_NAMES: tuple[str, ...] = tuple(row[0] for row in _ROWS)
NUM_JOINTS = len(JOINT_NAMES)
JOINT_LOWER = _column([row[2][0] for row in _ROWS])
JOINT_UPPER = _column([row[2][1] for row in _ROWS])
DEFAULT_JOINT_POS = _column([row[3] for row in _ROWS])
ARMATURE = _column([row[1].armature for row in _ROWS])
EFFORT_LIMIT = _column([row[1].effort for row in _ROWS])
VELOCITY_LIMIT = _column([row[1].velocity for row in _ROWS])
KP = _column([row[1].armature * NATURAL_FREQUENCY**2 for row in _ROWS])
KD = _column([2 * DAMPING_RATIO * row[1].armature * NATURAL_FREQUENCY for row in _ROWS])
# Servo targets may lie this far beyond a joint's range: a position servo gives torque in proportion to the distance, so
# a target at the limit leaves a joint near its limit without any (the ankle's roll, 0.26 rad, balances the robot on one
# foot). A joint at its stop is pressed with no more than 36 % of its motor's effort.
TARGET_MARGIN = _column([min(0.5, 0.36 * e / k) for e, k in zip(EFFORT_LIMIT, KP)])  # rad
TARGET_LOWER = _column([low - m for low, m in zip(JOINT_LOWER, TARGET_MARGIN)])
TARGET_UPPER = _column([high + m for high, m in zip(JOINT_UPPER, TARGET_MARGIN)])
ACTION_SCALE = _column([0.25 * e / k for e, k in zip(EFFORT_LIMIT, KP)])

JOINT_INDEX = {name: index for index, name in enumerate(JOINT_NAMES)}
LEFT_LEG, RIGHT_LEG = slice(0, 6), slice(6, 12)
WAIST = slice(12, 15)
LEFT_ARM, RIGHT_ARM = slice(15, 22), slice(22, 29)

ROOT_BODY = 'pelvis'
TORSO_BODY = 'torso_link'
FOOT_BODIES = ('left_ankle_roll_link', 'right_ankle_roll_link')
HAND_BODIES = ('left_wrist_yaw_link', 'right_wrist_yaw_link')
PALM_SITES = ('left_palm', 'right_palm')
# The bodies that motion tracking compares (root, knees, feet, torso, shoulders, elbows, hands).
KEY_BODIES = (
    'pelvis',
    'left_knee_link',
    'left_ankle_roll_link',
    'right_knee_link',
    'right_ankle_roll_link',
    'torso_link',
    'left_shoulder_roll_link',
    'left_elbow_link',
    'left_wrist_yaw_link',
    'right_shoulder_roll_link',
    'right_elbow_link',
    'right_wrist_yaw_link',
)
DEFAULT_ROOT_HEIGHT = 0.7565  # m, pelvis above the floor in the default pose (soles just touching)
FOOT_SOLE_OFFSET = 0.035  # m, from the ankle_roll_link origin down to the sole
