"""What a policy file says about itself, and what may be wrong with it.

The metadata travels inside the ONNX file (``metadata_props``), one JSON string per key, so that a
policy cannot be separated from the joint order, gains and observation it was trained with. Angles
in rad, gains in N m/rad and N m s/rad, torques in N m, all in the Unitree motor order.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from humanx_description import robot
from humanx_description.errors import UserError
from humanx_policy.observation import ObservationLayout

FORMAT_VERSION = 1
CONTROL_PERIOD = 0.01  # s, of the policy node's loop
Mode = Literal['nep', 'mocap']
# A joint's gain further than this factor from the robot's own is a mistake of units, order or
# export.
GAIN_FACTOR = 10.0
MAX_ACTION_SCALE = 3.0  # rad
_PROPRIOCEPTION = {
    'base_ang_vel': 3,
    'projected_gravity': 3,
    'joint_pos': robot.NUM_JOINTS,
    'joint_vel': robot.NUM_JOINTS,
    'last_action': robot.NUM_JOINTS,
    'pd_error': robot.NUM_JOINTS,
}
_OBJECT_SIZES = {'object_pos': 3, 'object_tracked': 1}  # per object role


class PolicyError(UserError):
    """A policy file is refused; ``problems`` holds one sentence for each thing that is wrong."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(' '.join(problems))
        self.problems = problems


@dataclass(frozen=True)
class PolicyMetadata:
    """Everything the policy node must know besides the network. Arrays are (29,) float64.

    ``provenance`` says where the policy comes from (clips, commit, seed, training command),
    ``measured`` what it reached (success rate, trials, simulator); both are free JSON mappings.
    """

    skill: str
    mode: Mode
    observation_terms: ObservationLayout
    object_roles: tuple[str, ...] = ()
    joint_names: tuple[str, ...] = robot.JOINT_NAMES
    default_joint_pos: np.ndarray = field(default_factory=robot.DEFAULT_JOINT_POS.copy)
    action_scale: np.ndarray = field(default_factory=robot.ACTION_SCALE.copy)
    kp: np.ndarray = field(default_factory=robot.KP.copy)
    kd: np.ndarray = field(default_factory=robot.KD.copy)
    effort_limit: np.ndarray = field(default_factory=robot.EFFORT_LIMIT.copy)
    control_period_s: float = CONTROL_PERIOD
    provenance: dict[str, Any] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def to_strings(self) -> dict[str, str]:
        """Return one JSON string per key, as the model file holds them.

        Raises ``ValueError`` where provenance or measured hold a non-finite number or what JSON
        cannot.
        """
        values = {
            'format_version': self.format_version,
            'skill': self.skill,
            'mode': self.mode,
            'joint_names': list(self.joint_names),
            'default_joint_pos': _floats(self.default_joint_pos),
            'action_scale': _floats(self.action_scale),
            'kp': _floats(self.kp),
            'kd': _floats(self.kd),
            'effort_limit': _floats(self.effort_limit),
            'observation_terms': self.observation_terms.to_list(),
            'object_roles': list(self.object_roles),
            'control_period_s': self.control_period_s,
            'provenance': self.provenance,
            'measured': self.measured,
        }
        return {key: json.dumps(value, allow_nan=False) for key, value in values.items()}

    @classmethod
    def from_strings(cls, strings: Mapping[str, str]) -> 'PolicyMetadata':
        """Read :meth:`to_strings`'s form back. Raises :class:`PolicyError` with all problems."""
        reader = _Reader(strings)
        values = {key: reader.read(key, parse) for key, parse in _PARSERS.items()}
        if not reader.problems:
            reader.problems += _disagreements(values)
        if reader.problems:
            raise PolicyError(reader.problems)
        return cls(**values)


def _floats(array: np.ndarray) -> list[float]:
    return [float(value) for value in np.asarray(array).ravel()]


class _Reader:
    """Reads key after key and collects every problem, so that a user sees all of them."""

    def __init__(self, strings: Mapping[str, str]) -> None:
        self._strings = strings
        self.problems: list[str] = []

    def read(self, key: str, parse: Callable[[Any], Any]) -> Any:
        if key not in self._strings:
            self.problems.append(f'Metadata key {key!r} is missing; expected {_EXPECTED[key]}.')
            return None
        try:
            value = json.loads(self._strings[key], parse_constant=_refuse_constant)
        except ValueError as error:
            self.problems.append(f'Metadata key {key!r} is not JSON ({error}); expected {_EXPECTED[key]}.')
            return None
        try:
            return parse(value)
        except ValueError as error:
            self.problems.append(f'Metadata key {key!r}: {error}; expected {_EXPECTED[key]}.')
            return None


def _refuse_constant(name: str) -> float:
    raise ValueError(f'it holds {name}')


def _parse_version(value: Any) -> int:
    if isinstance(value, bool) or value != FORMAT_VERSION:
        raise ValueError(f'it is {value!r}')
    return int(value)


def _parse_name(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f'it is {value!r}')
    return value


def _parse_mode(value: Any) -> str:
    if value not in get_args(Mode):
        raise ValueError(f'it is {value!r}')
    return str(value)


def _parse_joint_names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError('it is not a list of names')
    if len(value) != robot.NUM_JOINTS:
        raise ValueError(f'it has {len(value)} names (another robot?)')
    foreign = sorted(set(value) - set(robot.JOINT_NAMES))
    if foreign:
        raise ValueError(f'{foreign[0]!r} is no joint of the G1 (another robot?)')
    for index, (name, expected) in enumerate(zip(value, robot.JOINT_NAMES)):
        if name != expected:
            raise ValueError(f'joint {index} is {name!r} where the motor order has {expected!r} (another order?)')
    return tuple(value)


def _parse_vector(value: Any) -> np.ndarray:
    if not isinstance(value, list):
        raise ValueError(f'it is a {type(value).__name__}')
    if len(value) != robot.NUM_JOINTS:
        raise ValueError(f'it has {len(value)} entries')
    for name, number in zip(robot.JOINT_NAMES, value):
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise ValueError(f'{name} is {number!r}')
        if not math.isfinite(number):  # 1e999 is valid JSON
            raise ValueError(f'{name} is {number}')
    return np.array(value, dtype=np.float64)


def _parse_default(value: Any) -> np.ndarray:
    pose = _parse_vector(value)
    _require(pose, (pose < robot.JOINT_LOWER - 1e-6) | (pose > robot.JOINT_UPPER + 1e-6), 'rad')
    return pose


def _parse_scale(value: Any) -> np.ndarray:
    scale = _parse_vector(value)
    _require(scale, (scale <= 0) | (scale > MAX_ACTION_SCALE), 'rad')
    return scale


def _parse_gain(reference: np.ndarray, unit: str) -> Callable[[Any], np.ndarray]:
    def parse(value: Any) -> np.ndarray:
        gain = _parse_vector(value)
        if np.all(gain == 1.0):
            raise ValueError("every entry is 1.0, an exporter's placeholder")
        _require(gain, (gain < reference / GAIN_FACTOR) | (gain > reference * GAIN_FACTOR), unit)
        _require_symmetric(gain)
        return gain

    return parse


def _parse_effort(value: Any) -> np.ndarray:
    effort = _parse_vector(value)
    _require(effort, (effort <= 0) | (effort > robot.EFFORT_LIMIT * (1 + 1e-6)), 'N m')
    _require_symmetric(effort)
    return effort


def _require(values: np.ndarray, bad: np.ndarray, unit: str) -> None:
    """Raise ``ValueError`` that names the first joint where ``bad`` (29,) holds."""
    if bad.any():
        index = int(np.argmax(bad))
        raise ValueError(f'{robot.JOINT_NAMES[index]} is {values[index]:.6g} {unit}')


def _require_symmetric(values: np.ndarray) -> None:
    """Both sides carry the same motors: a difference means another joint order."""
    for name in robot.JOINT_NAMES:
        if not name.startswith('left_'):
            continue
        mirror = name.replace('left_', 'right_', 1)
        left, right = values[robot.JOINT_INDEX[name]], values[robot.JOINT_INDEX[mirror]]
        if abs(left - right) > 0.01 * max(left, right):
            raise ValueError(f'{name} is {left:.6g} but {mirror} is {right:.6g} (values in another joint order?)')


def _parse_terms(value: Any) -> ObservationLayout:
    layout = ObservationLayout.from_list(value)
    for term in layout.terms:
        if term.name not in _PROPRIOCEPTION and term.name not in _OBJECT_SIZES:
            raise ValueError(f'the term {term.name!r} is not known')
        expected = _PROPRIOCEPTION.get(term.name, term.size)
        if term.size != expected:
            raise ValueError(f'the term {term.name!r} has size {term.size} instead of {expected}')
    return layout


def _parse_roles(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(r, str) and r for r in value):
        raise ValueError('it is not a list of names')
    if len(set(value)) != len(value):
        raise ValueError('it names a role twice')
    if robot.ROOT_BODY in value:
        raise ValueError(f'{robot.ROOT_BODY!r} is the robot itself')
    return tuple(value)


def _parse_period(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f'it is {value!r}')
    if abs(value - CONTROL_PERIOD) > 1e-9:
        raise ValueError(f'it is {value} s')
    return float(value)


def _parse_mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f'it is a {type(value).__name__}')
    return value


def _disagreements(values: Mapping[str, Any]) -> list[str]:
    """Return sentences about keys that are well-formed but do not fit each other."""
    layout: ObservationLayout = values['observation_terms']
    roles, mode = values['object_roles'], values['mode']
    seen = [name for name in _OBJECT_SIZES if name in layout.names]
    problems = []
    if mode == 'nep' and (seen or roles):
        what = f'the term {seen[0]!r}' if seen else f'the object role {roles[0]!r}'
        problems.append(f"Metadata key 'mode' is 'nep' but the policy has {what}; expected none.")
    if mode == 'mocap':
        if not roles:
            problems.append("Metadata key 'object_roles' is empty; mode 'mocap' expects a role.")
        for name in _OBJECT_SIZES:
            if name not in seen:
                problems.append(f"Metadata key 'observation_terms' lacks {name!r}; mode 'mocap' expects it.")
    for name in seen:
        expected = _OBJECT_SIZES[name] * len(roles)
        size = layout.term(name).size
        if roles and size != expected:
            problems.append(
                f"Metadata key 'observation_terms': the term {name!r} has size {size}; expected "
                f'{expected} for {len(roles)} object role(s).'
            )
    return problems


_PARSERS: dict[str, Callable[[Any], Any]] = {
    'format_version': _parse_version,
    'skill': _parse_name,
    'mode': _parse_mode,
    'joint_names': _parse_joint_names,
    'default_joint_pos': _parse_default,
    'action_scale': _parse_scale,
    'kp': _parse_gain(robot.KP, 'N m/rad'),
    'kd': _parse_gain(robot.KD, 'N m s/rad'),
    'effort_limit': _parse_effort,
    'observation_terms': _parse_terms,
    'object_roles': _parse_roles,
    'control_period_s': _parse_period,
    'provenance': _parse_mapping,
    'measured': _parse_mapping,
}
_EXPECTED = {
    'format_version': f'{FORMAT_VERSION}',
    'skill': 'the name of the skill',
    'mode': "'nep' or 'mocap'",
    'joint_names': "the G1's 29 joint names in the Unitree motor order",
    'default_joint_pos': '29 finite angles in rad within the joint limits',
    'action_scale': f'29 numbers in rad above 0 and up to {MAX_ACTION_SCALE:g}',
    'kp': f"29 numbers in N m/rad within a factor {GAIN_FACTOR:g} of the robot's own",
    'kd': f"29 numbers in N m s/rad within a factor {GAIN_FACTOR:g} of the robot's own",
    'effort_limit': "29 numbers in N m above 0 and up to the motors' limits",
    'observation_terms': 'a list of mappings of name, size, scale and history, of the terms '
    + ', '.join([*_PROPRIOCEPTION, *_OBJECT_SIZES]),
    'object_roles': "a list of different object roles, empty in mode 'nep'",
    'control_period_s': f'{CONTROL_PERIOD} s',
    'provenance': 'a mapping that says where the policy comes from',
    'measured': 'a mapping of what the policy reached',
}
KEYS = tuple(_PARSERS)
