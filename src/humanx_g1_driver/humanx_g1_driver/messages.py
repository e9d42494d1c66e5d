"""The loop's packets as ROS messages."""

import math

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.serialization import serialize_message

from humanx_description import robot
from humanx_description.cdr import CdrReader, read_stamp
from humanx_g1_driver import link as wire_link
from humanx_msgs.msg import DriverStatus, RobotState

_N = robot.NUM_JOINTS


def to_time(seconds: float) -> Time:
    """Return a stamp for a time in seconds."""
    whole = math.floor(seconds)
    return Time(sec=int(whole), nanosec=min(int((seconds - whole) * 1e9), 999_999_999))


class RobotStateBytes:
    """A serialised ``humanx_msgs/RobotState`` whose numbers are written in place.

    200 times a second, making and serialising the message costs ten times as much.
    """

    FRAME = 'imu_in_pelvis'

    def __init__(self) -> None:
        message = RobotState()
        message.header.frame_id = message.imu.header.frame_id = self.FRAME
        self._buffer = bytearray(serialize_message(message))
        reader = CdrReader(self._buffer)
        self._stamp = self._view('<u4', reader.skip(2, 4), 2)
        reader.string()
        self._tick = self._view('<u4', reader.skip(1, 4), 1)
        self._joints = {
            name: self._view('<f8', reader.skip(_N, 8), _N) for name in ('position', 'velocity', 'torque')
        }
        self._joints['temperature'] = self._view('<f4', reader.skip(_N, 4), _N)
        self._imu_stamp = self._view('<u4', reader.skip(2, 4), 2)
        reader.string()
        self._quat_xyzw = self._view('<f8', reader.skip(4, 8), 4)
        reader.skip(9, 8)  # covariances stay zero: unknown
        self._gyro = self._view('<f8', reader.skip(3, 8), 3)
        reader.skip(9, 8)
        self._acceleration = self._view('<f8', reader.skip(3, 8), 3)
        reader.skip(9, 8)
        self._keys = self._view('<u2', reader.skip(1, 2), 1)
        self._sticks = self._view('<f4', reader.skip(4, 4), 4)

    def _view(self, code: str, start: int, count: int) -> np.ndarray:
        return np.frombuffer(self._buffer, code, count, start)

    def fill(self, packet: np.void, stamp_ns: int) -> bytes:
        """Return the message of a STATE packet; ``stamp_ns`` is when the state arrived, in ROS time."""
        self._stamp[:] = self._imu_stamp[:] = divmod(stamp_ns, 1_000_000_000)
        self._tick[0] = packet['tick']
        for name, view in self._joints.items():
            view[:] = packet[name]
        quat = packet['quat']
        self._quat_xyzw[:3], self._quat_xyzw[3] = quat[1:], quat[0]
        self._gyro[:], self._acceleration[:] = packet['gyro'], packet['acceleration']
        self._keys[0], self._sticks[:] = packet['keys'], packet['sticks']
        return bytes(self._buffer)


def read_targets(raw: bytes, packet: np.ndarray) -> None:
    """Write a serialised ``humanx_msgs/JointTargets`` into a TARGETS packet. ``ValueError`` for a cut message."""
    reader = CdrReader(raw)
    stamp = read_stamp(reader)
    reader.string()
    packet['stamp'] = stamp.sec + stamp.nanosec * 1e-9
    packet['sequence'], packet['state_tick'] = reader.uint64(), reader.uint32()
    for name in ('position', 'kp', 'kd', 'torque'):
        packet[name] = reader.float64s(_N)


def driver_status(packet: np.void, now_ros: float, now: float) -> DriverStatus:
    """Return a message from a STATUS packet; ``now_ros`` and ``now`` are the same moment in ROS and monotonic time."""
    message = DriverStatus()
    message.header.stamp = to_time(now_ros)
    message.state = int(packet['mode'])
    message.reason = wire_link.read_text(packet['text'])
    message.fault = int(packet['fault'])
    message.fault_count = int(packet['fault_count'])
    if packet['fault_count'] and packet['fault_at'] > 0.0:
        message.fault_stamp = to_time(now_ros - (now - float(packet['fault_at'])))
    message.estop = bool(packet['estop'])
    message.period_samples = int(packet['period_samples'])
    for name in (
        'period_mean', 'period_p99', 'period_max', 'period_error_p99', 'state_age', 'targets_age', 'response_p99',
        'response_max',
    ):  # fmt: skip
        setattr(message, name, float(packet[name]))
    for name in ('cycles', 'misses', 'clamped'):
        setattr(message, name, int(packet[name]))
    return message
