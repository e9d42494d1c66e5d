"""Messages into samples, and how old they are.

Age is counted twice and the larger counts: by the stamp (the message may have been late already)
and by the monotonic clock since it arrived (the system clock may have been set).
"""

import math
import time
from collections.abc import Sequence

import numpy as np

from humanx_description import robot
from humanx_msgs.msg import ObjectStates, RobotState
from humanx_policy.controller import ObjectsSample, RobotSample

WORLD = 'world'
# Stamps this far in the future are a clock that was set back, not the jitter of two processes.
FUTURE_TOLERANCE = 0.02  # s


class Freshness:
    """The age of the newest message of one topic."""

    def __init__(self) -> None:
        self._arrival: float | None = None
        self._stamp_ns = 0

    def seen(self, stamp_ns: int) -> None:
        """A message with that stamp (ns, ROS time) was read just now."""
        self._arrival = time.monotonic()
        self._stamp_ns = stamp_ns

    def age(self, now_ns: int) -> float:
        """Return the age in s at ``now_ns`` (ROS time): inf before the first message or for a future stamp."""
        if self._arrival is None:
            return math.inf
        by_stamp = (now_ns - self._stamp_ns) * 1e-9
        if by_stamp < -FUTURE_TOLERANCE:
            return math.inf
        return max(by_stamp, time.monotonic() - self._arrival, 0.0)


def stamp_ns(stamp: object) -> int:
    """Return a builtin_interfaces/Time in ns."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def robot_problem(sample: RobotSample) -> str:
    """Return a sentence where a robot state cannot be used, else an empty string."""
    for name in ('base_ang_vel', 'root_quat', 'joint_pos', 'joint_vel'):
        if not np.isfinite(getattr(sample, name)).all():
            return f'The robot state holds a non-finite number in {name}.'
    norm = float(np.linalg.norm(sample.root_quat))
    if abs(norm - 1) > 0.05:
        return f'The robot state holds an orientation of norm {norm:.3f}; expected a unit quaternion.'
    return ''


def robot_sample(message: RobotState) -> RobotSample:
    """Return the sample of a RobotState (ROS quaternions are x y z w)."""
    imu = message.imu
    q, w = imu.orientation, imu.angular_velocity
    return RobotSample(
        np.array([w.x, w.y, w.z]),
        np.array([q.w, q.x, q.y, q.z]),
        np.asarray(message.position),
        np.asarray(message.velocity),
    )


def objects_sample(message: ObjectStates, roles: Sequence[str]) -> ObjectsSample | str:
    """Return the sample of the policy's ``roles``, or a sentence about what the message lacks."""
    if message.header.frame_id != WORLD:
        return f"The objects are in the frame {message.header.frame_id!r}; expected '{WORLD}'."
    by_name = {state.name: state for state in message.objects}
    for name in (robot.ROOT_BODY, *roles):
        if name not in by_name:
            return f'The objects hold no {name!r}; the policy needs it.'
    pelvis = by_name[robot.ROOT_BODY]
    position = np.array([_xyz(by_name[role]) for role in roles]).reshape(-1, 3)
    tracked = np.array([by_name[role].tracked for role in roles])
    # A number that is no place is not seen, whatever the flag says.
    tracked &= np.isfinite(position).all(axis=1)
    q = pelvis.pose.orientation
    pelvis_pos, pelvis_quat = np.array(_xyz(pelvis)), np.array([q.w, q.x, q.y, q.z])
    good = pelvis.tracked and bool(np.isfinite(pelvis_pos).all()) and abs(float(pelvis_quat @ pelvis_quat) - 1) < 0.1
    if not good:
        pelvis_pos, pelvis_quat = np.zeros(3), np.array([1.0, 0, 0, 0])
    return ObjectsSample(pelvis_pos, pelvis_quat, good, position, tracked)


def _xyz(state: object) -> tuple[float, float, float]:
    p = state.pose.position
    return p.x, p.y, p.z
