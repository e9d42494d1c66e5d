"""The numbers of the safety machine, with the ranges they may be set to."""

from dataclasses import dataclass, fields

import numpy as np

from humanx_description.errors import UserError

# field: (lowest, highest, unit, what it is); the node declares its parameters from this table.
RANGES: dict[str, tuple[float, float, str, str]] = {
    'targets_timeout': (0.01, 0.5, 's', 'joint targets older than this are a fault'),
    'first_targets_timeout': (0.05, 10.0, 's', 'how long RUN waits, standing, for the first joint targets'),
    'state_timeout': (0.003, 0.2, 's', 'a robot state older than this is a fault'),
    'ros_timeout': (0.02, 1.0, 's', 'silence of the ROS side of the driver that is a fault'),
    'overrun_timeout': (0.005, 0.5, 's', 'a control period longer than this is a fault'),
    'max_tilt': (0.2, 1.6, 'rad', 'tilt of the pelvis beyond this is a fault'),
    'velocity_factor': (0.1, 3.0, '', 'a joint faster than this times its rated velocity is a fault'),
    'max_target_excess': (0.0, 6.3, 'rad', 'a target this far beyond a joint limit is a fault; less is clamped'),
    'max_target_jump': (0.05, 6.3, 'rad', 'a target that jumps by more than this within the joint limits is a fault'),
    'max_target_rate': (0.1, 20.0, '', 'targets move at most at this times the rated joint velocity'),
    'max_kp': (0.0, 1000.0, 'N m/rad', 'a stiffness above this is a fault'),
    'max_kd': (0.0, 100.0, 'N m s/rad', 'a damping above this is a fault'),
    'max_temperature': (40.0, 150.0, 'degC', 'a motor winding hotter than this is a fault'),
    'damping': (0.5, 20.0, 'N m s/rad', 'kd of every joint in DAMP'),
    'stand_seconds': (0.2, 20.0, 's', 'time to move from damping to the standing pose'),
    'blend_seconds': (0.1, 10.0, 's', 'time to move from the last target of a skill to the standing pose'),
}


@dataclass(frozen=True)
class SafetyLimits:
    """See :data:`RANGES` for what each means; times in seconds, angles in rad."""

    targets_timeout: float = 0.05
    first_targets_timeout: float = 1.0
    state_timeout: float = 0.02
    ros_timeout: float = 0.25
    overrun_timeout: float = 0.05
    max_tilt: float = np.pi / 3
    # Rated velocities are what the motors reach unloaded; above 1.5 times that the measurement is wrong or the robot is
    # being thrown about.
    velocity_factor: float = 1.5
    # Targets beyond a limit are how a policy asks for torque at the limit; nonsense (degrees, another order) is
    # further.
    max_target_excess: float = 3.2
    max_target_jump: float = 2.5
    max_target_rate: float = 3.0
    max_kp: float = 400.0
    max_kd: float = 30.0
    max_temperature: float = 110.0
    damping: float = 5.0
    stand_seconds: float = 2.0
    blend_seconds: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            low, high, unit, _ = RANGES[field.name]
            value = getattr(self, field.name)
            if not low <= value <= high:
                raise UserError(f'{field.name} is {value}; expected {low:g} to {high:g} {unit}'.rstrip() + '.')
