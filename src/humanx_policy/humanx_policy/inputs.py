"""What of the inputs can be used, and how old they are.

Age is counted twice and the larger counts: by the stamp (the message may have been late already)
and by the monotonic clock since it arrived (the system clock may have been set).
"""

import math
import time
from collections.abc import Sequence

import numpy as np

from humanx_description import robot
from humanx_policy.cdr import ObjectsReading
from humanx_policy.controller import ObjectsSample, RobotSample

WORLD = 'world'
# Stamps this far in the future are a clock that was set back, not the jitter of two processes.
FUTURE_TOLERANCE = 0.02  # s
NORM_TOLERANCE = 0.05  # of a unit quaternion


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


def robot_problem(sample: RobotSample) -> str:
    """Return a sentence where a robot state cannot be used, else an empty string."""
    for name in ('base_ang_vel', 'root_quat', 'joint_pos', 'joint_vel'):
        if not np.isfinite(getattr(sample, name)).all():
            return f'The robot state holds a non-finite number in {name}.'
    norm = math.hypot(*sample.root_quat)
    if abs(norm - 1) > NORM_TOLERANCE:
        return f'The robot state holds an orientation of norm {norm:.3f}; expected a unit quaternion.'
    return ''


def objects_sample(reading: ObjectsReading, roles: Sequence[str]) -> ObjectsSample | str:
    """Return the sample of the policy's ``roles``, or a sentence about what the message lacks."""
    if reading.frame_id != WORLD:
        return f"The objects are in the frame {reading.frame_id!r}; expected '{WORLD}'."
    for name in (robot.ROOT_BODY, *roles):
        if name not in reading.objects:
            return f'The objects hold no {name!r}; the policy needs it.'
    bodies = [reading.objects[role] for role in roles]
    position = np.array([body.pose[:3] for body in bodies]).reshape(-1, 3)
    # A number that is no place is not seen, whatever the flag says.
    tracked = np.array([body.tracked for body in bodies]) & np.isfinite(position).all(axis=1)
    pelvis = reading.objects[robot.ROOT_BODY]
    pose = pelvis.pose
    norm = math.hypot(*pose[3:])
    good = pelvis.tracked and bool(np.isfinite(pose).all()) and abs(norm - 1) < NORM_TOLERANCE
    if not good:
        pose = np.array([0.0, 0, 0, 1, 0, 0, 0])
    return ObjectsSample(pose[:3], pose[3:], good, position, tracked)
