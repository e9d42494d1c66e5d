"""What is wrong with a clip, in sentences: units, order, conventions, feet, limits, jumps, penetration, energy.

:func:`check` looks at the numbers alone, as somebody who received the file would. Lengths in m, angles in rad.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import mujoco
import numpy as np

from humanx_description import robot
from humanx_description.objects import ObjectSpec
from humanx_training import rotation
from humanx_training.clip import InteractionClip
from humanx_training.xgen.interleave import from_interleaved
from humanx_training.xgen.stage import Stage
from humanx_training.xgen.surface import Surface
from humanx_training.xgen.tool_clearance import ToolGuard

_STRIKE_S, _STRIKE_SPEED = 0.12, 0.5  # s at most, m/s at least: a touch that is a strike


@dataclass(frozen=True)
class Limits:
    """Above these a clip is bad."""

    float_height: float = 0.02  # m, lowest sole above the floor, median over the clip
    sink_depth: float = 0.015  # m
    skate: float = 0.02  # m per 100 ms while the whole sole is within 5 mm of the floor
    joint_excess: float = 0.002  # rad beyond a joint's range
    velocity_factor: float = 1.0  # of the motor's speed limit
    joint_step: float = 0.35  # rad change of joint velocity x frame: a jump in one frame
    root_jump: float = 1.5  # m/s change of the pelvis' velocity in one frame of 10 ms
    object_jump: float = 0.6  # m/s change of the object's velocity in 10 ms while nothing touches it
    penetration: float = 0.01  # m, of the object into the robot while it is held; a strike compresses it more
    strike_penetration: float = 0.04  # m
    floor_penetration: float = 0.012  # m, of the object into the floor, at rest; bounces compress more
    bounce_penetration: float = 0.05  # m
    tool_penetration: float = 0.005  # m, of a held tool into the floor or the robot
    energy_gain: float = 0.02  # of the kinetic energy, in a flight without a bounce


@dataclass
class Report:
    """The verdict: problems in sentences (empty: the clip is good) and the figures behind them."""

    problems: list[str] = field(default_factory=list)
    measures: dict[str, float] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        return not self.problems


def check(clip: InteractionClip, tools: tuple[ObjectSpec, ...] = (), limits: Limits | None = None,
          stage: Stage | None = None) -> Report:  # fmt: skip
    """Examine a clip; ``tools`` are objects that the robot holds fixed (a racket)."""
    limits = limits or Limits()
    report = Report()
    _check_conventions(clip, report)
    if report.problems:
        return report  # with wrong units or axes every other figure is noise
    stage = stage or Stage(tools)
    qpos = clip.qpos()[:, :36]
    _check_feet(clip, stage, qpos, limits, report)
    _check_joints(clip, limits, report)
    _check_jumps(clip, limits, report)
    if stage.tools:
        _check_tools(clip, stage, qpos, limits, report)
    if clip.has_object:
        _check_object(clip, stage, qpos, limits, report)
    return report


def _check_conventions(clip: InteractionClip, report: Report) -> None:
    """Units, axes, quaternion order and joint order: each by the hypothesis that explains the numbers better."""
    pos, say = clip.root_pos, report.problems.append
    size = float(np.abs(pos).max())
    if np.median(np.abs(pos[:, 2])) > 5.0 or size > 100.0:
        say(f'root_pos reaches {size:.0f}; expected metres (this looks like centimetres or millimetres).')
        return
    if np.abs(clip.joint_pos).max() > 2 * np.pi:
        say(f'joint_pos reaches {np.abs(clip.joint_pos).max():.0f}; expected radians (this looks like degrees).')
        return
    up_w, up_x = _upright(clip.root_quat), _upright(clip.root_quat[:, [3, 0, 1, 2]])
    height = float(np.median(pos[:, 2]))
    report.measures |= {'root_height_median': height, 'upright_fraction': up_w}
    if up_w < 0.5 and up_x > 0.8:
        say(
            f'root_quat holds the pelvis upright in {up_w:.0%} of the frames as (w, x, y, z) and in {up_x:.0%} as '
            '(x, y, z, w); expected w first.'
        )
    elif np.median(np.abs(pos[:, 1])) > 0.5 and height < 0.35 and np.std(pos[:, 1]) < 0.3:
        along_y = np.median(pos[:, 1])
        say(f'the pelvis is {height:.2f} m high and {along_y:.2f} m along y; expected z up (this looks y-up).')
    elif up_w < 0.5:
        say(f'the pelvis is upright in only {up_w:.0%} of the frames; expected the base frame with z up.')
    excess = _excess(clip.joint_pos)
    if excess > 0.05:
        mirrored = min(_excess(m) for m in _mirrored(clip.joint_pos))
        ordered = _excess(from_interleaved(clip.joint_pos))
        if ordered < 0.5 * excess and ordered < 0.05:
            say('joint_pos fits the limits only when left and right joints interleave; expected Unitree motor order.')
        elif mirrored < 0.5 * excess and mirrored < 0.05:
            say('joint_pos fits the limits only when mirrored; expected y to the left (a left-handed source?).')


def _upright(quat: np.ndarray) -> float:
    tilt = rotation.rotate(rotation.normalise(quat), np.broadcast_to([0.0, 0.0, 1.0], (len(quat), 3)))[:, 2]
    return float((tilt > 0.5).mean())


def _excess(joint_pos: np.ndarray) -> float:
    return float(np.maximum(joint_pos - robot.JOINT_UPPER, robot.JOINT_LOWER - joint_pos).max())


def _mirrored(joint_pos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what a mirrored file would have meant: sides exchanged, or roll and yaw of the other sign."""
    exchanged, negated = joint_pos.copy(), joint_pos.copy()
    for left, right in ((robot.LEFT_LEG, robot.RIGHT_LEG), (robot.LEFT_ARM, robot.RIGHT_ARM)):
        exchanged[:, left], exchanged[:, right] = joint_pos[:, right], joint_pos[:, left]
    negated[:, [i for i, n in enumerate(robot.JOINT_NAMES) if 'roll' in n or 'yaw' in n]] *= -1.0
    return exchanged, negated


def _check_feet(clip: InteractionClip, stage: Stage, qpos: np.ndarray, limits: Limits, report: Report) -> None:
    height, place = sole_points(stage, qpos)
    lowest = height.min(axis=(1, 2))
    report.measures['sole_height_median'] = float(np.median(lowest))
    report.measures['sole_depth'] = float(max(0.0, -lowest.min()))
    if np.median(lowest) > limits.float_height:
        report.problems.append(
            f'the feet float: the lower sole is {np.median(lowest) * 100:.1f} cm above the floor (median); '
            f'expected below {limits.float_height * 100:.0f} cm.'
        )
    if lowest.min() < -limits.sink_depth:
        report.problems.append(
            f'a foot sinks {-lowest.min() * 100:.1f} cm into the floor at {lowest.argmin() / clip.fps:.2f} s; '
            f'expected below {limits.sink_depth * 100:.1f} cm.'
        )
    # A foot stands where its whole sole (four corners) is down at both ends of a tenth of a second.
    span = max(1, round(0.1 * clip.fps))
    down = (height - max(0.0, min(np.median(lowest), 0.02)) < 0.005).all(axis=2)
    # (a quick low step is down at both ends, too: it must be down throughout).
    count = np.concatenate([np.zeros((1, 2), dtype=int), np.cumsum(down, axis=0)])
    both = count[span + 1 :] - count[: -span - 1] == span + 1
    slip = np.linalg.norm(place[span:] - place[:-span], axis=2)
    report.measures['skate_100ms'] = worst = float(np.where(both, slip, 0.0).max(initial=0.0))
    if worst > limits.skate:
        when = np.where(both, slip, 0.0).max(axis=1).argmax() / clip.fps
        report.problems.append(
            f'a standing foot slides {worst * 100:.1f} cm in 100 ms at {when:.2f} s; '
            f'expected below {limits.skate * 100:.1f} cm.'
        )


def sole_points(stage: Stage, qpos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return heights (T, 2, 4) m of the sole's corners and their mean place (T, 2, 2) m, left and right foot."""
    model = stage.model
    heights, places = np.empty((len(qpos), 2, 4)), np.empty((len(qpos), 2, 2))
    corners = []
    for side in ('left', 'right'):
        geoms = [model.geom(f'{side}_foot{n}_collision').id for n in (2, 6)]
        ends = []
        for geom in geoms:
            matrix = np.empty(9)
            mujoco.mju_quat2Mat(matrix, model.geom_quat[geom])
            axis = matrix.reshape(3, 3)[:, 2] * model.geom_size[geom][1]
            ends += [model.geom_pos[geom] + axis, model.geom_pos[geom] - axis]
        corners.append((model.body(f'{side}_ankle_roll_link').id, np.array(ends), float(model.geom_size[geoms[0]][0])))
    for t, q in enumerate(qpos):
        data = stage.pose(q)
        for foot, (body, points, radius) in enumerate(corners):
            world = data.xpos[body] + points @ data.xmat[body].reshape(3, 3).T
            heights[t, foot] = world[:, 2] - radius
            places[t, foot] = world[:, :2].mean(axis=0)
    return heights, places


def _check_joints(clip: InteractionClip, limits: Limits, report: Report) -> None:
    over = np.maximum(clip.joint_pos - robot.JOINT_UPPER, robot.JOINT_LOWER - clip.joint_pos)
    frame, joint = np.unravel_index(over.argmax(), over.shape)
    report.measures['joint_excess'] = float(over.max())
    if over.max() > limits.joint_excess:
        report.problems.append(
            f'{robot.JOINT_NAMES[joint]} is {over.max():.3f} rad beyond its range at {frame / clip.fps:.2f} s; '
            f'expected {robot.JOINT_LOWER[joint]:.2f} to {robot.JOINT_UPPER[joint]:.2f}.'
        )
    speed = np.abs(np.diff(clip.joint_pos, axis=0)) * clip.fps / (limits.velocity_factor * robot.VELOCITY_LIMIT)
    frame, joint = np.unravel_index(speed.argmax(), speed.shape)
    report.measures['joint_speed_fraction'] = float(speed.max())
    if speed.max() > 1.0:
        report.problems.append(
            f'{robot.JOINT_NAMES[joint]} moves at {speed.max() * robot.VELOCITY_LIMIT[joint]:.0f} rad/s at '
            f'{frame / clip.fps:.2f} s; expected at most {robot.VELOCITY_LIMIT[joint]:.0f}.'
        )


def _check_jumps(clip: InteractionClip, limits: Limits, report: Report) -> None:
    # A jump is a step that its two neighbours do not prepare; the measure is the second difference.
    second = np.abs(np.diff(clip.joint_pos, n=2, axis=0)) * min(1.0, clip.fps / 100.0)
    if len(second):
        frame, joint = np.unravel_index(second.argmax(), second.shape)
        report.measures['joint_jump'] = float(second.max())
        if second.max() > limits.joint_step:
            report.problems.append(
                f'{robot.JOINT_NAMES[joint]} jumps by {second.max():.2f} rad in a frame at '
                f'{(frame + 1) / clip.fps:.2f} s; '
                'expected a continuous motion.'
            )
        change = np.linalg.norm(np.diff(clip.root_pos, n=2, axis=0), axis=1) * clip.fps * min(1.0, clip.fps / 100.0)
        report.measures['root_velocity_jump'] = float(change.max())
        if change.max() > limits.root_jump:
            report.problems.append(
                f'the pelvis changes its velocity by {change.max():.1f} m/s in a frame at '
                f'{(change.argmax() + 1) / clip.fps:.2f} s; expected a continuous motion.'
            )
    turn = np.linalg.norm(rotation.log(
        rotation.multiply(rotation.conjugate(clip.root_quat[:-1]), clip.root_quat[1:])), axis=1) * clip.fps
    report.measures['root_turn_rate'] = float(turn.max())
    if turn.max() > 25.0:
        report.problems.append(
            f'the pelvis turns at {turn.max():.0f} rad/s at {turn.argmax() / clip.fps:.2f} s; expected a continuous '
            f'motion.'
        )


def _check_tools(clip: InteractionClip, stage: Stage, qpos: np.ndarray, limits: Limits, report: Report) -> None:
    # Every other frame: a tool does not dive into the floor and out again within one.
    gap, frame, what = ToolGuard(stage).worst(qpos[::2])
    report.measures['tool_penetration'] = max(0.0, -gap)
    if gap < -limits.tool_penetration:
        report.problems.append(
            f'the tool is {-gap * 1000:.0f} mm inside {what} at {2 * frame / clip.fps:.2f} s; '
            f'expected below {limits.tool_penetration * 1000:.0f} mm.'
        )


def _check_object(clip: InteractionClip, stage: Stage, qpos: np.ndarray, limits: Limits, report: Report) -> None:
    surface = Surface.of(clip.object_spec())
    distances = stage.distances(qpos, surface, clip.object_pos, clip.object_quat)
    depth = -distances.min(axis=1)
    report.measures['object_penetration'] = float(max(0.0, depth.max()))
    allowed = np.where(_struck(clip, depth > 0), limits.strike_penetration, limits.penetration)
    if (depth > allowed).any():
        frame = int((depth - allowed).argmax())
        body = stage.model.body(int(stage.spheres.owner[distances[frame].argmin()])).name
        report.problems.append(
            f'the object is {depth[frame] * 1000:.0f} mm inside {body} at {frame / clip.fps:.2f} s; '
            f'expected below {limits.penetration * 1000:.0f} mm, {limits.strike_penetration * 1000:.0f} mm in a strike.'
        )
    low = np.array([p[2] - surface.lowest(m) for p, m in zip(clip.object_pos, rotation.to_matrix(clip.object_quat))])
    _check_floor(clip, low, limits, report)
    touched = depth > -0.03
    _check_flight(clip, low, touched, surface, limits, report)
    if clip.contact.shape[1]:
        labelled = np.zeros_like(clip.contact)
        labelled = stage.contact_graph(qpos, surface, clip.object_pos, clip.object_quat, clip.contact_bodies) \
            if all(b in stage.body_names for b in clip.contact_bodies) else clip.contact
        wrong = float((labelled != clip.contact).mean())
        report.measures['contact_label_disagreement'] = wrong
        if wrong > 0.02:
            report.problems.append(
                f'the contact labels differ from the geometry in {wrong:.0%} of the entries; expected below 2 %.'
            )


def _struck(clip: InteractionClip, inside: np.ndarray) -> np.ndarray:
    """Return (T,) bool: frames of a touch (``inside`` (T,) bool) that is short and sends the object off."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]]).astype(int)))
    velocity = clip.object_lin_vel
    struck = np.zeros(clip.num_frames, bool)
    for first, end in zip(edges[::2], edges[1::2]):
        before, after = max(first - 1, 0), min(end, clip.num_frames - 1)
        if (end - first) / clip.fps <= _STRIKE_S and np.linalg.norm(velocity[after] - velocity[before]) > _STRIKE_SPEED:
            struck[first:end] = True
    return struck


def _check_floor(clip: InteractionClip, low: np.ndarray, limits: Limits, report: Report) -> None:
    speed = np.abs(rotation.linear_rate(clip.object_pos[:, 2], clip.fps))
    bouncing = np.convolve(speed > 0.3, np.ones(7), 'same') > 0
    deep = np.where(bouncing, low + limits.bounce_penetration, low + limits.floor_penetration)
    report.measures['object_floor_depth'] = float(max(0.0, -low.min()))
    if deep.min() < 0:
        frame = int(deep.argmin())
        report.problems.append(
            f'the object is {-low[frame] * 1000:.0f} mm inside the floor at {frame / clip.fps:.2f} s; expected below '
            f'{limits.floor_penetration * 1000:.0f} mm at rest, {limits.bounce_penetration * 1000:.0f} mm in a bounce.'
        )


def _check_flight(
    clip: InteractionClip, low: np.ndarray, touched: np.ndarray, surface: Surface, limits: Limits, report: Report
) -> None:
    """Where nothing touches the object, it must fall freely (or roll): no jump and no energy from nowhere."""
    kinds = np.array(['?'] * clip.num_frames, dtype='<U8')
    for phase in clip.phases:
        kinds[phase.start : phase.end] = phase.kind
    held = (kinds == 'contact') | (kinds == 'rest') if clip.phases else np.zeros(clip.num_frames, dtype=bool)
    free = ~(touched | held | (low < 0.03))
    # Differences need their neighbours free as well.
    free = np.convolve(free, np.ones(5), 'same') > 4.5
    velocity = clip.object_lin_vel
    speed = np.linalg.norm(velocity, axis=1)
    jump = np.linalg.norm(np.diff(velocity, axis=0), axis=1) * min(1.0, clip.fps / 100.0)
    jump = np.where(free[:-1] & free[1:], jump, 0.0)
    drag_length = clip.object_spec().drag_length
    if drag_length > 0:
        # Drag alone changes the velocity by v^2 / L per second.
        jump = np.maximum(jump - 1.3 * speed[:-1] ** 2 / drag_length * min(1.0 / clip.fps, 0.01), 0.0)
    limit = limits.object_jump
    report.measures['object_velocity_jump'] = float(jump.max(initial=0.0))
    if jump.max(initial=0.0) > limit:
        report.problems.append(
            f'the object changes its velocity by {jump.max():.1f} m/s in a frame at {jump.argmax() / clip.fps:.2f} s '
            'though nothing touches it; expected free flight.'
        )
    energy = 9.81 * clip.object_pos[:, 2] + 0.5 * speed**2
    worst, when = 0.0, 0
    for start, end in _runs(free):
        if end - start < 8:
            continue
        part = energy[start + 2 : end - 2]
        scale = max(float((0.5 * speed[start:end] ** 2).max()), 2.0)
        gain = float((part - np.minimum.accumulate(part)).max(initial=0.0)) / scale
        if gain > worst:
            worst, when = gain, start
    report.measures['energy_gain'] = worst
    if worst > limits.energy_gain:
        report.problems.append(
            f'the object gains {worst:.0%} of its energy in the flight that begins at {when / clip.fps:.2f} s; '
            f'expected below {limits.energy_gain:.0%}.'
        )
    # Across a bounce it may only lose.
    flights = [r for r in _runs(free) if r[1] - r[0] >= 6]
    for (_, end), (start, _) in zip(flights, flights[1:]):
        if (touched | held)[end:start].any():
            continue
        before, after = energy[end - 3], energy[start + 2]
        if after > before + 0.05 * max(before, 2.0):
            report.problems.append(
                f'the object leaves a bounce at {start / clip.fps:.2f} s with {after / before - 1:.0%} more energy '
                f'than it '
                'had; expected less.'
            )


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2])]
