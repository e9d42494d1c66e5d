"""The states of the safety machine, its faults, and what an operator may ask."""

from enum import IntEnum
from typing import NamedTuple


class Mode(IntEnum):
    """States; the numbers are those of ``humanx_msgs/DriverStatus``."""

    ZERO_TORQUE = 0
    DAMP = 1
    STAND = 2
    RUN = 3


class Fault(IntEnum):
    """Why the machine went to DAMP; the numbers are those of ``humanx_msgs/DriverStatus``."""

    NONE = 0
    TARGETS_STALE = 1
    STATE_STALE = 2
    TARGET_INVALID = 3
    SEQUENCE = 4
    TILT = 5
    JOINT_VELOCITY = 6
    ESTOP = 7
    SECOND_PUBLISHER = 8
    SECOND_WRITER = 9
    LOOP_OVERRUN = 10
    CLOCK = 11
    STATE_INVALID = 12
    TEMPERATURE = 13
    INTERNAL = 14
    REPORTED = 15


class Action(IntEnum):
    """What an operator can ask for. Anyone may stop the robot; only these calls start it."""

    DAMP = 1
    STAND = 2
    RUN = 3
    ESTOP = 4


class Problem(NamedTuple):
    """A fault and one sentence (without its full stop) that says what was seen and what was expected."""

    fault: Fault
    reason: str


class Answer(NamedTuple):
    """The answer to an operator's call."""

    accepted: bool
    reason: str
