"""The fields of RobotState and ObjectStates that the policy needs, read from the serialised
messages.

To read a RobotState as rclpy does was a third of the policy's tick; a test compares these readers
with rclpy's.
"""

from dataclasses import dataclass

import numpy as np

from humanx_description import robot
from humanx_description.cdr import CdrReader, Stamp, read_stamp
from humanx_policy.controller import RobotSample


@dataclass(frozen=True)
class StateReading:
    """What the policy needs of a humanx_msgs/RobotState."""

    stamp: Stamp
    tick: int
    sample: RobotSample


def read_robot_state(raw: bytes) -> StateReading:
    """Read a serialised humanx_msgs/RobotState. Raises ``ValueError`` for a cut message."""
    reader = CdrReader(raw)
    stamp = read_stamp(reader)
    reader.string()
    tick = reader.uint32()
    position = reader.float64s(robot.NUM_JOINTS)
    velocity = reader.float64s(robot.NUM_JOINTS)
    reader.skip(robot.NUM_JOINTS, 8)  # torque
    reader.skip(robot.NUM_JOINTS, 4)  # temperature
    read_stamp(reader)  # of the IMU, and its frame
    reader.string()
    x, y, z, w = reader.float64s(4)
    reader.skip(9, 8)  # covariance
    gyro = reader.float64s(3)
    return StateReading(stamp, tick, RobotSample(gyro, np.array([w, x, y, z]), position, velocity))


@dataclass(frozen=True)
class ObjectReading:
    """One body of a humanx_msgs/ObjectStates: pose (7: position, quaternion w first) and whether it is tracked."""

    pose: np.ndarray
    tracked: bool


@dataclass(frozen=True)
class ObjectsReading:
    """What the policy needs of a humanx_msgs/ObjectStates."""

    stamp: Stamp
    frame_id: str
    objects: dict[str, ObjectReading]


def read_objects(raw: bytes) -> ObjectsReading:
    """Read a serialised humanx_msgs/ObjectStates. Raises ``ValueError`` for a cut message."""
    reader = CdrReader(raw)
    stamp, frame_id = read_stamp(reader), reader.string()
    read_stamp(reader)  # of the source, and its frame number
    reader.uint32()
    objects = {}
    for _ in range(reader.uint32()):
        name = reader.string()
        pose = reader.float64s(7)[[0, 1, 2, 6, 3, 4, 5]]
        reader.skip(6, 8)  # twist
        tracked = bool(reader.uint8())
        reader.float64()  # age
        reader.uint32()  # occlusion frames
        reader.uint8()  # loss
        objects[name] = ObjectReading(pose, tracked)
    return ObjectsReading(stamp, frame_id, objects)
