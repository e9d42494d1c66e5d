"""The driver's serialised messages against what rclpy makes of them."""

import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message

from humanx_description import robot
from humanx_g1_driver import link as wire_link
from humanx_g1_driver.link import Kind
from humanx_g1_driver.messages import RobotStateBytes, read_targets
from humanx_msgs.msg import JointTargets, RobotState

pytestmark = pytest.mark.ros
N = robot.NUM_JOINTS


def test_robot_state_is_read_as_it_was_filled():
    rng = np.random.default_rng(1)
    state = RobotStateBytes()
    for _ in range(2):  # the second message keeps nothing of the first
        packet = wire_link.packet(Kind.STATE)
        for name in ('position', 'velocity', 'torque', 'temperature', 'quat', 'gyro', 'acceleration', 'sticks'):
            packet[name] = rng.normal(size=packet[name].shape)
        packet['tick'], packet['keys'] = rng.integers(2**32), rng.integers(2**16)
        message = deserialize_message(state.fill(packet[()], 1_700_000_000_123_456_789), RobotState)
        stamps = [message.header.stamp, message.imu.header.stamp]
        assert [(stamp.sec, stamp.nanosec) for stamp in stamps] == [(1_700_000_000, 123_456_789)] * 2
        assert message.header.frame_id == message.imu.header.frame_id == 'imu_in_pelvis'
        assert (message.tick, message.remote_keys) == (packet['tick'], packet['keys'])
        for name in ('position', 'velocity', 'torque', 'temperature'):
            np.testing.assert_array_equal(getattr(message, name), packet[name])
        np.testing.assert_array_equal(message.remote_sticks, packet['sticks'])
        imu = message.imu
        quat, rate, acceleration = imu.orientation, imu.angular_velocity, imu.linear_acceleration
        assert [quat.w, quat.x, quat.y, quat.z] == packet['quat'].tolist()
        assert [rate.x, rate.y, rate.z] == packet['gyro'].tolist()
        assert [acceleration.x, acceleration.y, acceleration.z] == packet['acceleration'].tolist()
        assert not message.imu.orientation_covariance.any()


def targets() -> JointTargets:
    rng = np.random.default_rng(2)
    message = JointTargets(sequence=2**40 + 1, state_tick=123)
    message.header.stamp.sec, message.header.stamp.nanosec = 17, 250_000_000
    message.header.frame_id = 'any'
    for name in ('position', 'kp', 'kd', 'torque'):
        setattr(message, name, rng.normal(size=N))
    return message


def test_targets_are_read_as_they_were_sent():
    message, packet = targets(), wire_link.packet(Kind.TARGETS)
    read_targets(serialize_message(message), packet)
    assert (packet['sequence'], packet['state_tick'], packet['stamp']) == (2**40 + 1, 123, 17.25)
    for name in ('position', 'kp', 'kd', 'torque'):
        np.testing.assert_array_equal(packet[name], getattr(message, name))


def test_cut_targets_are_refused():
    with pytest.raises(ValueError, match='ends before'):
        read_targets(serialize_message(targets())[:-8], wire_link.packet(Kind.TARGETS))
