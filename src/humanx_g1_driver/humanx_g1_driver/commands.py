"""What the 29 motors are told, and the two clamps that every command passes."""

import math
from dataclasses import dataclass, field

import numpy as np

from humanx_description import robot


def _zeros() -> np.ndarray:
    return np.zeros(robot.NUM_JOINTS)


@dataclass
class MotorCommand:
    """Targets and gains of the 29 joints in motor order, each (29,): the motor gives kp (q - q_m) - kd dq_m + tau."""

    q: np.ndarray = field(default_factory=_zeros)  # rad
    kp: np.ndarray = field(default_factory=_zeros)  # N m/rad
    kd: np.ndarray = field(default_factory=_zeros)  # N m s/rad
    tau: np.ndarray = field(default_factory=_zeros)  # N m

    def copy_from(self, other: 'MotorCommand') -> None:
        self.q[:], self.kp[:], self.kd[:], self.tau[:] = other.q, other.kp, other.kd, other.tau

    def is_finite(self) -> bool:
        """Tell whether every number is finite (one sum for all: anything else makes it so)."""
        return math.isfinite(self.q.sum() + self.kp.sum() + self.kd.sum() + self.tau.sum())

    def set_damping(self, q: np.ndarray, damping: float) -> None:
        """Velocity damping only. ``q`` is a measured position: harmless should a motor ever take it for stiff."""
        self.q[:] = q
        self.kp[:] = 0.0
        self.kd[:] = damping
        self.tau[:] = 0.0

    def set_limp(self, q: np.ndarray) -> None:
        """No torque at all."""
        self.q[:] = q
        self.kp[:] = self.kd[:] = self.tau[:] = 0.0


MIN_STIFFNESS = 1e-3  # N m/rad: below, a joint's torque cannot be limited by moving its target


class Clamps:
    """Joint range (with its margin for servo targets), rate and torque, applied in this order.

    All by moving the target position.
    """

    def __init__(self, max_rate: float, period_s: float) -> None:
        """``max_rate``: times the rated joint velocity."""
        self._step = max_rate * robot.VELOCITY_LIMIT * period_s
        self._last = np.zeros(robot.NUM_JOINTS)
        self._low = np.zeros(robot.NUM_JOINTS)
        self._high = np.zeros(robot.NUM_JOINTS)
        self._wanted = np.zeros(robot.NUM_JOINTS)

    def restart(self, q: np.ndarray) -> None:
        """The next target may move away from ``q`` at the limited rate."""
        self._last[:] = q

    def apply(self, command: MotorCommand, q: np.ndarray, dq: np.ndarray) -> bool:
        """Clamp in place for measured positions and velocities; tell whether anything was changed.

        The torque ``kp (q* - q) - kd dq + tau`` is kept within the effort limits by moving ``q*``. Where a joint has no
        stiffness to do that with, its feed-forward torque is clamped.
        """
        wanted, low, high, target = self._wanted, self._low, self._high, command.q
        wanted[:] = target
        np.maximum(target, robot.TARGET_LOWER, out=target)
        np.minimum(target, robot.TARGET_UPPER, out=target)
        np.subtract(self._last, self._step, out=low)
        np.add(self._last, self._step, out=high)
        np.maximum(target, low, out=target)
        np.minimum(target, high, out=target)
        self._last[:] = target

        effort, kp = robot.EFFORT_LIMIT, command.kp
        passive = command.tau - command.kd * dq  # torque without the position term
        if kp.min() > MIN_STIFFNESS:
            stiff = None
            gain = kp
        else:
            stiff = kp > MIN_STIFFNESS
            gain = np.where(stiff, kp, 1.0)
        np.divide(-effort - passive, gain, out=low)
        low += q
        np.divide(effort - passive, gain, out=high)
        high += q
        if stiff is None:
            np.maximum(target, low, out=target)
            np.minimum(target, high, out=target)
        else:
            np.copyto(target, np.clip(target, low, high), where=stiff)
            np.copyto(command.tau, np.clip(command.tau, -effort, effort), where=~stiff)
        return not np.array_equal(target, wanted)
