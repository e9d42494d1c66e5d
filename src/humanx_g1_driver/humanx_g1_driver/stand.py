"""Standing by the driver itself: the state before and after every skill.

Stiff position control of a pose is not enough to stand: two ankles would have to be stiffer than the robot's weight
times its height (about 240 N m/rad). The pose is therefore held stiffly, and the ankles lean against a tilt of the
pelvis measured by the IMU, which moves the centre of pressure under the feet.
"""

import math

import numpy as np

from humanx_description import robot
from humanx_g1_driver.commands import MotorCommand

# hip pitch, roll, yaw, knee, ankle pitch, roll; waist yaw, roll, pitch; shoulder pitch, roll, yaw, elbow, wrist r, p, y
_LEG_KP, _LEG_KD = [225.0, 225.0, 150.0, 300.0, 80.0, 60.0], [4.0, 4.0, 3.0, 5.0, 4.0, 3.0]
_WAIST_KP, _WAIST_KD = [100.0, 100.0, 100.0], [4.0, 4.0, 4.0]
_ARM_KP, _ARM_KD = [40.0, 40.0, 40.0, 40.0, 20.0, 15.0, 15.0], [2.0, 2.0, 2.0, 2.0, 1.0, 0.8, 0.8]
STAND_KP = np.array(_LEG_KP * 2 + _WAIST_KP + _ARM_KP * 2)
STAND_KD = np.array(_LEG_KD * 2 + _WAIST_KD + _ARM_KD * 2)

_HIP_PITCH, _KNEE, _ANKLE_PITCH = ([robot.JOINT_INDEX[f'{s}_{n}_joint'] for s in ('left', 'right')]
                                   for n in ('hip_pitch', 'knee', 'ankle_pitch'))  # fmt: skip
_HIP_ROLL, _ANKLE_ROLL = ([robot.JOINT_INDEX[f'{s}_{n}_joint'] for s in ('left', 'right')]
                          for n in ('hip_roll', 'ankle_roll'))  # fmt: skip


class StandController:
    """Moves smoothly from a starting command to the standing pose and balances there."""

    # rad of ankle per rad of tilt, and per rad/s; found by the push test in test_stand.py.
    TILT_GAIN = 1.4
    RATE_GAIN = 0.3
    SLOW_GAIN = 0.5  # rad of ankle per rad of tilt and second: takes out what the weight in front of the ankles bends
    MAX_LEAN = 0.3  # rad that balancing may add to an ankle
    MAX_SLOW = 0.15  # rad of it from the slow part

    def __init__(self, pose: np.ndarray | None = None) -> None:
        """``pose`` (29,): joint positions in rad to stand in; the default pose if None."""
        self.pose = np.array(robot.DEFAULT_JOINT_POS if pose is None else pose, dtype=float)
        # Where the pelvis tilts to when the soles lie flat on the floor in this pose.
        self._pitch = -float(np.mean(self.pose[_HIP_PITCH] + self.pose[_KNEE] + self.pose[_ANKLE_PITCH]))
        self._roll = -float(np.mean(self.pose[_HIP_ROLL] + self.pose[_ANKLE_ROLL]))
        self._start = MotorCommand()
        self._slow = [0.0, 0.0]
        self._last: float | None = None
        self._since = 0.0
        self._seconds = 1.0

    def begin(self, start: MotorCommand, now: float, seconds: float) -> None:
        """Start the move from ``start`` (targets and gains) at time ``now`` (s, monotonic)."""
        self._start.copy_from(start)
        self._since, self._seconds = now, seconds
        self._slow, self._last = [0.0, 0.0], None

    def settled(self, now: float) -> bool:
        """True once the move is over."""
        return now - self._since >= self._seconds

    def command(self, now: float, quat: np.ndarray, gyro: np.ndarray, out: MotorCommand) -> None:
        """Write the command for time ``now``.

        ``quat`` (4,): orientation of the pelvis, w first; ``gyro`` (3,): angular velocity in its frame, rad/s.
        """
        x = min(max((now - self._since) / self._seconds, 0.0), 1.0)
        share = x * x * x * (10.0 + x * (6.0 * x - 15.0))  # minimum jerk
        # Gains come in early: a target near the measured position with full gains does not pull.
        stiffness = min(1.0, 4.0 * x)
        start = self._start
        out.q[:] = start.q + share * (self.pose - start.q)
        out.kp[:] = start.kp + stiffness * (STAND_KP - start.kp)
        out.kd[:] = start.kd + stiffness * (STAND_KD - start.kd)
        out.tau[:] = (1.0 - share) * start.tau
        w, qx, qy, qz = quat.tolist()  # Python floats: numpy's own scalars cost ten times as much
        rates = gyro.tolist()
        # Gravity in the pelvis frame gives the tilt without the yaw.
        down_x, down_y = -2.0 * (qx * qz - w * qy), -2.0 * (qy * qz + w * qx)
        down_z = -(1.0 - 2.0 * (qx * qx + qy * qy))
        pitch = math.atan2(down_x, -down_z) - self._pitch
        roll = math.atan2(-down_y, -down_z) - self._roll
        elapsed = 0.0 if self._last is None else min(now - self._last, 0.01)
        self._last = now
        for ankles, axis, tilt, rate in ((_ANKLE_PITCH, 0, pitch, rates[1]), (_ANKLE_ROLL, 1, roll, rates[0])):
            slow = self._slow[axis] + share * self.SLOW_GAIN * elapsed * tilt
            self._slow[axis] = slow = min(max(slow, -self.MAX_SLOW), self.MAX_SLOW)
            lean = slow + share * (self.TILT_GAIN * tilt + self.RATE_GAIN * rate)
            lean = min(max(lean, -self.MAX_LEAN), self.MAX_LEAN)
            for ankle in ankles:
                out.q[ankle] += lean
