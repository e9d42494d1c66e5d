"""The loop's packets as ROS messages."""

import math

import numpy as np
from builtin_interfaces.msg import Time

from humanx_g1_driver import link as wire_link
from humanx_msgs.msg import DriverStatus, RobotState


def to_time(seconds: float) -> Time:
    """Return a stamp for a time in seconds."""
    whole = math.floor(seconds)
    return Time(sec=int(whole), nanosec=min(int((seconds - whole) * 1e9), 999_999_999))


def fill_robot_state(message: RobotState, packet: np.void, stamp_ns: int) -> None:
    """Fill a message (reused) from a STATE packet; ``stamp_ns`` is when the state arrived, in ROS time."""
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
    message.tick = int(packet['tick'])
    message.position = packet['position']
    message.velocity = packet['velocity']
    message.torque = packet['torque']
    message.temperature = packet['temperature']
    w, x, y, z = packet['quat'].tolist()
    imu = message.imu
    imu.header.stamp = message.header.stamp
    orientation = imu.orientation
    orientation.w, orientation.x, orientation.y, orientation.z = w, x, y, z
    rate, acceleration = imu.angular_velocity, imu.linear_acceleration
    rate.x, rate.y, rate.z = packet['gyro'].tolist()
    acceleration.x, acceleration.y, acceleration.z = packet['acceleration'].tolist()
    message.remote_keys = int(packet['keys'])
    message.remote_sticks = packet['sticks']


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
