"""From the mocap system's axes, units and origin to ``world`` (z up, metres)."""

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from humanx_mocap_bridge import quaternion as quat

UNITS = {'m': 1.0, 'mm': 0.001, 'cm': 0.01}
_HALF = np.sqrt(0.5)
# The rotation that takes the source's up axis to z. y-up systems (OptiTrack's default): (x, y, z)
# -> (x, -z, y).
_UP = {'z': np.array([1.0, 0, 0, 0]), 'y': np.array([_HALF, _HALF, 0, 0])}
# How far a quaternion's norm may be off before it is no rounding error but no rotation.
NORM_TOLERANCE = 0.05


@dataclass(frozen=True)
class FrameChange:
    """Axes, unit and place of a mocap system.

    ``origin`` is the place (x, y, z in m) and heading (rad about z) of the mocap system's origin in
    ``world``.
    """

    up_axis: Literal['z', 'y'] = 'z'
    unit: Literal['m', 'cm', 'mm'] = 'm'
    origin: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    _turn: np.ndarray = field(init=False, repr=False, compare=False)
    _back: np.ndarray = field(init=False, repr=False, compare=False)
    _matrix: np.ndarray = field(init=False, repr=False, compare=False)
    _place: np.ndarray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        up = _UP[self.up_axis]
        heading = np.array([np.cos(self.origin[3] / 2), 0, 0, np.sin(self.origin[3] / 2)])
        turn = quat.multiply(heading, up)
        object.__setattr__(self, '_turn', turn)
        object.__setattr__(self, '_back', quat.conjugate(up))
        object.__setattr__(self, '_matrix', quat.matrix(turn) * UNITS[self.unit])
        object.__setattr__(self, '_place', np.array(self.origin[:3]))

    def pose(self, pose: np.ndarray) -> np.ndarray:
        """Return a source pose (7: position, quaternion w first) in ``world``.

        The up-axis change is a change of coordinates, for the body's own axes too: a body whose
        frame the system aligned with its axes (orientation identity) has orientation identity in
        ``world``. The origin is a motion: it turns the body.
        """
        out = np.empty(7)
        out[:3] = self._matrix @ pose[:3] + self._place
        out[3:] = quat.multiply(quat.multiply(self._turn, pose[3:]), self._back)
        return out


def attach(pose: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Return the pose of a body whose frame is at ``offset`` (7) in the tracked frame at ``pose``
    (7).

    The markers' frame is rarely the body's own: the policy wants the pelvis origin, not the plate
    with markers on it.
    """
    position = pose[:3] + quat.matrix(pose[3:]) @ offset[:3]
    return np.concatenate([position, quat.multiply(pose[3:], offset[3:])])


def valid_pose(pose: np.ndarray) -> np.ndarray | None:
    """Return ``pose`` (7) with a normalised quaternion, or None where it is no pose.

    None for non-finite numbers, no unit quaternion, and a position of exactly zero in all three
    coordinates, which several systems report for a body they do not see.
    """
    if not np.isfinite(pose).all() or not pose[:3].any():
        return None
    norm = math.hypot(*pose[3:].tolist())
    if abs(norm - 1) > NORM_TOLERANCE:
        return None
    return np.concatenate([pose[:3], pose[3:] / norm])
