"""Whether a trial succeeded, decided from its recorded time series alone.

The simulated robot, the offline evaluation and a bag all build a :class:`TrialRecord` and call :func:`judge`, so that
the three cannot disagree about what success is.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from humanx_description import robot

MIN_UPRIGHT_HEIGHT = 0.45  # m, pelvis above the floor
MAX_UPRIGHT_TILT = np.deg2rad(45.0)


@dataclass(frozen=True)
class MotionGoal:
    """Something the body must reach once: ``body``'s height (m) or speed (m/s) above or below a bound."""

    body: str
    quantity: Literal['height', 'speed', 'forward']
    above: float | None = None
    below: float | None = None

    def __post_init__(self) -> None:
        if self.body not in robot.KEY_BODIES:
            raise ValueError(f'body is {self.body!r}; expected one of {", ".join(robot.KEY_BODIES)}.')
        if (self.above is None) == (self.below is None):
            raise ValueError('expected exactly one of above and below.')


@dataclass(frozen=True)
class SuccessRule:
    """What counts as success.

    ``stand``: upright throughout and the pelvis stays within ``max_drift`` (m) of its start.
    ``motion``: every goal of ``motion`` is reached, then upright at the end.
    ``strike``: a body of ``bodies`` touches the object after its start; the object then leaves within
    ``max_angle_deg`` of the direction to the partner at ``min_speed`` (horizontal, m/s), and the robot is
    upright ``upright_after_s`` later. ``lift``: the object comes within ``tolerance`` (m) of ``target_height``
    (m) while touched, upright at the end. ``reach``: the object passes within ``tolerance`` of ``target_pos``
    (scenario frame), upright at the end. ``hold``: the object is touched by ``bodies`` for ``hold_s`` in one
    piece, upright at the end.
    """

    kind: Literal['stand', 'motion', 'strike', 'lift', 'reach', 'hold']
    bodies: tuple[str, ...] = ()
    min_speed: float = 1.0
    max_angle_deg: float = 20.0
    upright_after_s: float = 2.0
    max_drift: float = 0.5
    tolerance: float = 0.1
    target_height: float = 0.0
    target_pos: tuple[float, float, float] = (0.0, 0.0, 0.0)
    hold_s: float = 0.5
    motion: tuple[MotionGoal, ...] = ()

    def __post_init__(self) -> None:
        if self.kind in ('strike', 'hold') and not self.bodies:
            raise ValueError(f'bodies is empty; expected the bodies that may touch the object in a {self.kind}.')
        if self.kind == 'motion' and not self.motion:
            raise ValueError('motion is empty; expected at least one goal.')


@dataclass
class TrialRecord:
    """A trial as a time series of T samples, 100 Hz or more, in the world frame; time 0 is when RUN begins.

    ``object_*`` are NaN without an object. ``touch[t, i]``: body ``touch_bodies[i]`` touches the object (by
    geometry). ``launch_time`` is when the object was set free; ``scenario_origin`` (3,) and ``scenario_yaw`` place
    the scenario frame.
    """

    time: np.ndarray  # (T,) s
    root_pos: np.ndarray  # (T, 3) m
    root_quat: np.ndarray  # (T, 4) w first
    key_body_pos: np.ndarray  # (T, 12, 3) m, robot.KEY_BODIES
    object_pos: np.ndarray  # (T, 3) m
    object_vel: np.ndarray  # (T, 3) m/s
    touch: np.ndarray  # (T, B) bool
    touch_bodies: tuple[str, ...] = ()
    launch_time: float = 0.0
    partner: np.ndarray = field(default_factory=lambda: np.zeros(3))
    scenario_origin: np.ndarray = field(default_factory=lambda: np.zeros(3))
    scenario_yaw: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """The outcome of a trial, why, and what was measured (speeds m/s, angles deg, times s, distances m)."""

    success: bool
    reason: str
    measures: dict[str, float]


def upright(root_pos: np.ndarray, root_quat: np.ndarray) -> np.ndarray:
    """Return (T,) bool: the pelvis is higher than 0.45 m and tilted less than 45 degrees."""
    cos_tilt = 1.0 - 2.0 * (root_quat[..., 1] ** 2 + root_quat[..., 2] ** 2)
    return (root_pos[..., 2] > MIN_UPRIGHT_HEIGHT) & (cos_tilt > np.cos(MAX_UPRIGHT_TILT))


def judge(rule: SuccessRule, record: TrialRecord) -> Verdict:
    """Return the verdict of ``rule`` on ``record``; an empty or non-finite record is a failure with its reason."""
    if len(record.time) < 2:
        return Verdict(False, 'nothing was recorded', {})
    if not (np.isfinite(record.root_pos).all() and np.isfinite(record.root_quat).all()):
        return Verdict(False, 'the robot state is not finite', {})
    up = upright(record.root_pos, record.root_quat)
    measures = {'duration': float(record.time[-1] - record.time[0])}
    fallen = np.flatnonzero(~up)
    if fallen.size:
        measures['fell_at'] = float(record.time[fallen[0]])
    return _RULES[rule.kind](rule, record, up, measures)


def _stand(rule: SuccessRule, record: TrialRecord, up: np.ndarray, measures: dict) -> Verdict:
    drift = np.linalg.norm(record.root_pos[:, :2] - record.root_pos[0, :2], axis=1).max()
    measures['drift'] = float(drift)
    if not up.all():
        return Verdict(False, 'fell', measures)
    if drift > rule.max_drift:
        return Verdict(False, f'drifted {drift:.2f} m', measures)
    return Verdict(True, 'stood', measures)


def _motion(rule: SuccessRule, record: TrialRecord, up: np.ndarray, measures: dict) -> Verdict:
    for index, goal in enumerate(rule.motion):
        track = record.key_body_pos[:, robot.KEY_BODIES.index(goal.body)]
        if goal.quantity == 'height':
            values = track[:, 2]
        elif goal.quantity == 'speed':
            values = np.linalg.norm(np.gradient(track, record.time, axis=0), axis=1)
        else:
            heading = np.array([np.cos(record.scenario_yaw), np.sin(record.scenario_yaw), 0.0])
            values = (track - record.root_pos) @ heading
        best = float(values.max() if goal.above is not None else values.min())
        measures[f'goal_{index}_{goal.body}_{goal.quantity}'] = best
        reached = best > goal.above if goal.above is not None else best < goal.below  # type: ignore[operator]
        if not reached:
            return Verdict(False, f'{goal.body} {goal.quantity} reached only {best:.2f}', measures)
    return _end_upright(up, measures, 'motion done')


def _strike(rule: SuccessRule, record: TrialRecord, up: np.ndarray, measures: dict) -> Verdict:
    allowed = np.isin(record.touch_bodies, rule.bodies)
    after = record.time >= record.launch_time
    touched = np.flatnonzero(record.touch[:, allowed].any(axis=1) & after)
    if not touched.size:
        return Verdict(False, 'fell before the touch' if not up.all() else 'not touched', measures)
    first = touched[0]
    measures['touch_at'] = float(record.time[first])
    measures['launch_to_touch'] = float(record.time[first] - record.launch_time)
    departure = _departure(record, first)
    if departure is None:
        return Verdict(False, 'the object did not leave', measures)
    velocity = record.object_vel[departure]
    direction = record.partner - record.object_pos[departure]
    speed = float(np.linalg.norm(velocity[:2]))
    angle = np.degrees(np.arctan2(velocity[1], velocity[0]) - np.arctan2(direction[1], direction[0]))
    angle = float((angle + 180.0) % 360.0 - 180.0)
    measures |= {'speed': speed, 'angle_deg': angle}
    if speed < rule.min_speed:
        return Verdict(False, f'left at {speed:.2f} m/s', measures)
    if abs(angle) > rule.max_angle_deg:
        return Verdict(False, f'left {angle:.0f} degrees off', measures)
    until = record.time[first] + rule.upright_after_s
    if record.time[-1] < until - 0.02:
        return Verdict(False, 'the record ends too early', measures)
    if not up[record.time <= until].all():
        return Verdict(False, 'fell after the strike', measures)
    return Verdict(True, 'struck', measures)


def _departure(record: TrialRecord, first: int, settle: float = 0.1) -> int | None:
    """Return the sample 0.1 s after the last touch of the first strike (touches less than 0.3 s apart are one)."""
    touch_any = record.touch.any(axis=1)
    last = first
    for index in np.flatnonzero(touch_any[first:]) + first:
        if record.time[index] - record.time[last] > 0.3:
            break
        last = index
    target = record.time[last] + settle
    if record.time[-1] < target:
        return None
    return int(np.searchsorted(record.time, target))


def _lift(rule: SuccessRule, record: TrialRecord, up: np.ndarray, measures: dict) -> Verdict:
    touched = record.touch.any(axis=1)
    error = np.abs(record.object_pos[:, 2] - rule.target_height)
    error = np.where(touched, error, np.inf)
    measures['height_error'] = float(error.min())
    if not touched.any():
        return Verdict(False, 'not touched', measures)
    if error.min() > rule.tolerance:
        return Verdict(False, f'came within {error.min():.2f} m of the height', measures)
    return _end_upright(up, measures, 'lifted')


def _reach(rule: SuccessRule, record: TrialRecord, up: np.ndarray, measures: dict) -> Verdict:
    c, s = np.cos(record.scenario_yaw), np.sin(record.scenario_yaw)
    x, y, z = rule.target_pos
    target = record.scenario_origin + np.array([c * x - s * y, s * x + c * y, z])
    after = record.time >= record.launch_time
    distance = np.linalg.norm(record.object_pos[after] - target, axis=1)
    if not distance.size or not np.isfinite(distance).any():
        return Verdict(False, 'the object was not seen', measures)
    measures['distance'] = float(np.nanmin(distance))
    if measures['distance'] > rule.tolerance:
        return Verdict(False, f'passed {measures["distance"]:.2f} m from the target', measures)
    return _end_upright(up, measures, 'reached')


def _hold(rule: SuccessRule, record: TrialRecord, up: np.ndarray, measures: dict) -> Verdict:
    allowed = np.isin(record.touch_bodies, rule.bodies)
    held = record.touch[:, allowed].any(axis=1) & (record.time >= record.launch_time)
    longest, since = 0.0, None
    for now, touching in zip(record.time, held):
        since = (now if since is None else since) if touching else None
        if since is not None:
            longest = max(longest, float(now - since))
    measures['held'] = longest
    if longest < rule.hold_s:
        return Verdict(False, f'held for {longest:.2f} s', measures)
    return _end_upright(up, measures, 'held')


def _end_upright(up: np.ndarray, measures: dict, what: str) -> Verdict:
    if not up.all():
        return Verdict(False, f'{what}, but fell', measures)
    return Verdict(True, what, measures)


_RULES = {
    'stand': _stand,
    'motion': _motion,
    'strike': _strike,
    'lift': _lift,
    'reach': _reach,
    'hold': _hold,
}
