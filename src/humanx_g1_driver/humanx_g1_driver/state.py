"""The robot's state as the safety machine looks at it, and the check that it can be believed."""

import math

import numpy as np

from humanx_description import robot
from humanx_g1_driver.faults import Fault, Problem
from humanx_g1_driver.limits import SafetyLimits
from humanx_g1_driver.wire import LowStateBuffer


class RobotSnapshot:
    """Joint positions (rad) and velocities (rad/s), (29,) in motor order; pelvis IMU: quaternion w first, rad/s."""

    def __init__(self) -> None:
        self.q = np.zeros(robot.NUM_JOINTS)
        self.dq = np.zeros(robot.NUM_JOINTS)
        self.quat = np.array([1.0, 0.0, 0.0, 0.0])
        self.gyro = np.zeros(3)
        self.tick = -1
        self.keys = 0
        self.max_temperature = 0

    def read(self, state: LowStateBuffer) -> None:
        """Copy the parts that matter out of a state message."""
        n = robot.NUM_JOINTS
        self.q[:] = state.q[:n]
        self.dq[:] = state.dq[:n]
        self.quat[:] = state.quaternion
        self.gyro[:] = state.gyroscope
        self.tick = state.tick
        self.max_temperature = int(state.temperature[:n].max())

    @property
    def tilt(self) -> float:
        """Angle between the pelvis' own up and the world's, rad."""
        _, x, y, _ = self.quat.tolist()
        return math.acos(min(max(1.0 - 2.0 * (x * x + y * y), -1.0), 1.0))


def implausible(state: RobotSnapshot) -> Problem | None:
    """Return what makes a state impossible to use: a number that is not finite, or no unit quaternion."""
    # One sum for all: anything not finite makes it so, and single-precision numbers cannot overflow it.
    if not math.isfinite(state.q.sum() + state.dq.sum() + state.gyro.sum()):
        return Problem(Fault.STATE_INVALID, 'the robot state holds a number that is not finite')
    norm = float(state.quat @ state.quat)
    if not 0.9 < norm < 1.1:  # false for NaN too
        return Problem(Fault.STATE_INVALID, f'the orientation in the robot state has norm {norm**0.5:.3f}, expected 1')
    return None


def unsafe(state: RobotSnapshot, limits: SafetyLimits) -> Problem | None:
    """Return what makes a believable state one to damp in: tilt, joint velocity, temperature."""
    tilt = state.tilt
    if tilt > limits.max_tilt:
        return Problem(
            Fault.TILT,
            f'the pelvis is tilted by {np.degrees(tilt):.0f} degrees, expected at most '
            f'{np.degrees(limits.max_tilt):.0f}',
        )
    share = np.abs(state.dq) / robot.VELOCITY_LIMIT
    if share.max() > limits.velocity_factor:
        index = int(share.argmax())
        return Problem(
            Fault.JOINT_VELOCITY,
            f'{robot.JOINT_NAMES[index]} moves at {abs(state.dq[index]):.1f} rad/s, expected at most '
            f'{limits.velocity_factor * robot.VELOCITY_LIMIT[index]:.1f}',
        )
    if state.max_temperature > limits.max_temperature:
        return Problem(
            Fault.TEMPERATURE,
            f'a motor is at {state.max_temperature} degrees C, expected at most {limits.max_temperature:.0f}',
        )
    return None
