"""What can be chosen about the simulated robot; imports nothing heavy."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class SensorNoise:
    """Standard deviations of white noise, per sample at 1 kHz."""

    joint_pos: float = 0.0003  # rad
    joint_vel: float = 0.02  # rad/s
    gyro: float = 0.01  # rad/s
    accel: float = 0.1  # m/s^2
    orientation: float = 0.002  # rad, of roll, pitch and yaw each

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value >= 0.0:
                raise ValueError(f'{name} is {value}; expected 0 or more.')


@dataclass(frozen=True)
class WorldConfig:
    """The simulated robot's motors, sensors, start and partner."""

    actuation_delay_ms: int = 2
    command_timeout_ms: int = 30
    silent_damping: float = 5.0  # N m s/rad, by the motor boards when commands stop
    noise: SensorNoise = field(default_factory=SensorNoise)
    gantry: bool = True
    balls: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.actuation_delay_ms <= 50:
            raise ValueError(f'actuation_delay_ms is {self.actuation_delay_ms}; expected 0 to 50.')
        if not 1 <= self.command_timeout_ms <= 10_000:
            raise ValueError(f'command_timeout_ms is {self.command_timeout_ms}; expected 1 to 10000.')
        if not 1 <= self.balls <= 1000:
            raise ValueError(f'balls is {self.balls}; expected 1 to 1000.')
