"""Joint targets on their way in: what a message may hold, and what makes it a fault."""

from dataclasses import dataclass, field

import numpy as np

from humanx_description import robot
from humanx_g1_driver.faults import Fault, Problem
from humanx_g1_driver.limits import SafetyLimits


@dataclass
class Targets:
    """One message of the policy. Arrays are (29,) in motor order; SI units; times in seconds on the monotonic clock."""

    sequence: int
    position: np.ndarray
    kp: np.ndarray
    kd: np.ndarray
    torque: np.ndarray
    stamp: float = 0.0  # wall clock, of the robot state this answers
    observed_at: float | None = None  # when that robot state arrived here; None if it is not one of the recent ones
    received_at: float = field(default=0.0)


class TargetGate:
    """Accepts the messages of one run in order, or says what is wrong with one."""

    def __init__(self, limits: SafetyLimits) -> None:
        self._limits = limits
        self._lowest = robot.JOINT_LOWER - limits.max_target_excess
        self._highest = robot.JOINT_UPPER + limits.max_target_excess
        self.last: Targets | None = None

    def restart(self) -> None:
        """Forget the previous run: the next message is the first."""
        self.last = None

    def check(self, targets: Targets) -> Problem | None:
        """Accept ``targets`` (then :attr:`last`) and return None, or return the problem and keep the former."""
        problem = (
            self._check_numbers(targets) or self._check_order(targets) or self._check_age(targets)
        ) or self._check_jump(targets)
        if problem is None:
            self.last = targets
        return problem

    def _check_numbers(self, targets: Targets) -> Problem | None:
        limits = self._limits
        for name, low, high in (
            ('position', self._lowest, self._highest),
            ('kp', 0.0, limits.max_kp),
            ('kd', 0.0, limits.max_kd),
            ('torque', -robot.EFFORT_LIMIT, robot.EFFORT_LIMIT),
        ):
            values = getattr(targets, name)
            # One expression for both: a comparison with NaN is false.
            good = (values >= low) & (values <= high)
            if not good.all():
                index = int(np.argmin(good))
                value = values[index]
                least, most = np.broadcast_to(low, good.shape)[index], np.broadcast_to(high, good.shape)[index]
                return Problem(
                    Fault.TARGET_INVALID,
                    f'joint targets {targets.sequence}: {name} of {robot.JOINT_NAMES[index]} is {value:.3g}, '
                    f'expected {least:.3g} to {most:.3g}',
                )
        return None

    def _check_order(self, targets: Targets) -> Problem | None:
        last = self.last
        if last is None:
            return None
        if targets.sequence <= last.sequence:
            how = 'repeated' if targets.sequence == last.sequence else f'came after {last.sequence}'
            return Problem(Fault.SEQUENCE, f'joint targets {targets.sequence} {how}')
        if targets.stamp < last.stamp:
            return Problem(
                Fault.CLOCK,
                f'the stamp of joint targets {targets.sequence} went back by {last.stamp - targets.stamp:.3f} s',
            )
        return None

    def _check_age(self, targets: Targets) -> Problem | None:
        if targets.observed_at is None:
            return Problem(
                Fault.TARGETS_STALE,
                f'joint targets {targets.sequence} answer no robot state of the last second (state_tick)',
            )
        age = targets.received_at - targets.observed_at
        if age > self._limits.targets_timeout:
            return Problem(
                Fault.TARGETS_STALE,
                f'joint targets {targets.sequence} answer a robot state {1e3 * age:.0f} ms old, '
                f'expected at most {1e3 * self._limits.targets_timeout:.0f} ms',
            )
        return None

    def _check_jump(self, targets: Targets) -> Problem | None:
        if self.last is None:
            return None
        # Of what the joints can do: far beyond its limits a target only asks for torque, and may swing widely.
        jump = np.abs(_within_limits(targets.position) - _within_limits(self.last.position))
        index = int(np.argmax(jump))
        if jump[index] > self._limits.max_target_jump:
            return Problem(
                Fault.TARGET_INVALID,
                f'joint targets {targets.sequence}: position of {robot.JOINT_NAMES[index]} jumps by '
                f'{jump[index]:.2f} rad, expected at most {self._limits.max_target_jump:.2f}',
            )
        return None


def _within_limits(position: np.ndarray) -> np.ndarray:
    return np.minimum(np.maximum(position, robot.TARGET_LOWER), robot.TARGET_UPPER)
