"""How a trial starts: where the object is, how it moves, and over which range it is varied.

All positions and velocities are in the *scenario frame*: origin on the floor below the robot's pelvis at the
moment RUN begins, x along the robot's heading, z up.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Scenario:
    """The start of a trial of one skill.

    Until ``delay_s`` (drawn uniformly) after RUN the object rests at its start, held by a partner or lying;
    then it moves with ``start_vel`` (m/s). ``rolling`` gives it the spin of rolling without slip. The nominal
    trial uses the values as they stand; a generalisation trial adds uniform draws from ``pos_range`` (m, half
    width per axis) and scales the speed by 1 ± ``speed_range``. ``partner_pos`` is where the partner stands
    (``None``: where the object starts). ``drop`` False: an object at rest stays put until it is touched.
    """

    object: str = ''
    start_pos: tuple[float, float, float] = (0.0, 0.0, 0.0)
    start_quat: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)
    start_vel: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rolling: bool = False
    pos_range: tuple[float, float, float] = (0.0, 0.0, 0.0)
    speed_range: float = 0.0
    delay_s: tuple[float, float] = (1.0, 2.0)
    partner_pos: tuple[float, float, float] | None = None
    duration_s: float = 8.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.delay_s[0] <= self.delay_s[1]:
            raise ValueError(f'delay_s is {list(self.delay_s)}; expected two ascending numbers from 0.')
        if self.duration_s <= 0:
            raise ValueError(f'duration_s is {self.duration_s}; expected a positive number of seconds.')
        if not 0.0 <= self.speed_range < 1.0:
            raise ValueError(f'speed_range is {self.speed_range}; expected 0 to below 1.')


@dataclass(frozen=True)
class TrialStart:
    """One trial's draw: object state in the scenario frame and when it is set free (s after RUN began)."""

    pos: np.ndarray  # (3,) m
    quat: np.ndarray  # (4,) w first
    lin_vel: np.ndarray  # (3,) m/s
    ang_vel: np.ndarray  # (3,) rad/s, scenario frame
    delay: float  # s
    partner: np.ndarray  # (3,) m


def sample(
    scenario: Scenario, seed: int | np.random.Generator, *, generalise: bool, radius: float = 0.11
) -> TrialStart:
    """Draw the start of one trial.

    ``generalise`` False gives the nominal place and speed (only the delay is drawn); ``radius`` (m) of a
    rolling object. The same seed gives the same trial.
    """
    rng = np.random.default_rng(seed)
    delay = float(rng.uniform(*scenario.delay_s))
    offset = rng.uniform(-1.0, 1.0, 3) * np.array(scenario.pos_range)
    factor = 1.0 + rng.uniform(-1.0, 1.0) * scenario.speed_range
    if not generalise:
        offset, factor = np.zeros(3), 1.0
    pos = np.array(scenario.start_pos) + offset
    velocity = np.array(scenario.start_vel) * factor
    spin = np.zeros(3)
    if scenario.rolling:
        spin = np.cross([0.0, 0.0, 1.0], velocity) / radius
    partner = pos.copy() if scenario.partner_pos is None else np.array(scenario.partner_pos)
    return TrialStart(pos, np.array(scenario.start_quat), velocity, spin, delay, partner)


def to_world(start: TrialStart, root_pos_w: np.ndarray, root_quat_w: np.ndarray) -> TrialStart:
    """Return the draw in the world frame, given the pelvis position (3,) and orientation (4,) when RUN begins."""
    w, x, y, z = root_quat_w
    yaw = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    c, s = np.cos(yaw), np.sin(yaw)
    rotation = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    origin = np.array([root_pos_w[0], root_pos_w[1], 0.0])
    qw, qz = np.cos(yaw / 2), np.sin(yaw / 2)
    w, x, y, z = start.quat
    quat = np.array([qw * w - qz * z, qw * x - qz * y, qw * y + qz * x, qw * z + qz * w])
    return TrialStart(
        origin + rotation @ start.pos,
        quat,
        rotation @ start.lin_vel,
        rotation @ start.ang_vel,
        start.delay,
        origin + rotation @ start.partner,
    )
