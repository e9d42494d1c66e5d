"""Parameters of the driver node."""

from dataclasses import fields

import numpy as np

from humanx_description import robot
from humanx_description.errors import UserError
from humanx_description.ros.parameters import Param
from humanx_g1_driver.control_process import ControlConfig
from humanx_g1_driver.limits import RANGES, SafetyLimits

_DEFAULTS = SafetyLimits()


def _limit(name: str) -> Param:
    low, high, unit, meaning = RANGES[name]
    text = meaning[0].upper() + meaning[1:] + (f', {unit}.' if unit else '.')
    return Param(f'safety.{name}', float(getattr(_DEFAULTS, name)), text, low, high)


PARAMS = (
    Param('network_interface', 'lo', "Network interface of the robot's wire; lo stays on this machine."),
    Param('dds_domain', 0, "DDS domain of the robot's wire; a real robot uses 0.", 0, 232),
    Param('robot_state_rate', 200, 'Rate of robot_state, Hz (1000 divided by a whole number).', 10, 500),
    Param('realtime_priority', 70, 'SCHED_FIFO priority of the control loop; 0 asks for none.', 0, 95),
    Param('cpu', 1, 'CPU that the control loop is bound to, counted around; -1: none.', -1, 1023),
    Param('ros_priority', 30, 'SCHED_FIFO priority of the ROS side; 0 asks for none.', 0, 90),
    Param('discovery_s', 0.8, 'How long to look for another writer of rt/lowcmd before becoming one, s.', 0.1, 30.0),
    Param('orphan_s', 3.0, 'How long the loop goes on damping when the ROS side has died, s.', 0.1, 60.0),
    Param('release_motion_service', True, "Release the robot's own motion service first (not on loopback)."),
    Param(
        'tolerate_silent_writers', False,
        'Accept other writers of rt/lowcmd as long as they write nothing (a stock robot may hold such).',
    ),
    Param('stand_pose', robot.DEFAULT_JOINT_POS.tolist(), 'Joint positions to stand in, rad, motor order.'),
    Param('summary_file', '', 'Where to write the timing of the whole run as JSON at the end; empty: nowhere.'),
    *(_limit(field.name) for field in fields(SafetyLimits)),
)  # fmt: skip


def control_config(values: dict) -> ControlConfig:
    """Return what the loop is told; raise :class:`UserError` naming a parameter that is wrong."""
    rate = values['robot_state_rate']
    if 1000 % rate:
        raise UserError(f"g1_driver: parameter 'robot_state_rate' is {rate}; expected a divisor of 1000.")
    limits = SafetyLimits(**{f.name: values[f'safety.{f.name}'] for f in fields(SafetyLimits)})
    return ControlConfig(
        network_interface=values['network_interface'],
        dds_domain=values['dds_domain'],
        realtime_priority=values['realtime_priority'],
        cpu=values['cpu'],
        state_rate=rate,
        discovery_s=values['discovery_s'],
        orphan_s=values['orphan_s'],
        release_motion_service=values['release_motion_service'],
        tolerate_silent_writers=values['tolerate_silent_writers'],
        stand_pose=_stand_pose(list(values['stand_pose'])),
        limits=limits,
    )


def _stand_pose(pose: list) -> list[float]:
    if len(pose) != robot.NUM_JOINTS:
        raise UserError(f"g1_driver: parameter 'stand_pose' has {len(pose)} numbers; expected {robot.NUM_JOINTS}.")
    values = np.asarray(pose, dtype=float)
    good = (values >= robot.JOINT_LOWER) & (values <= robot.JOINT_UPPER)
    if not good.all():
        i = int(np.argmin(good))
        raise UserError(
            f"g1_driver: parameter 'stand_pose' holds {values[i]:.3g} for {robot.JOINT_NAMES[i]}; expected "
            f'{robot.JOINT_LOWER[i]:.3g} to {robot.JOINT_UPPER[i]:.3g}.'
        )
    return [float(v) for v in values]
