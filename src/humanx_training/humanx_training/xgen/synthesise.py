"""One clip from a robot motion and a plan: contact paths, flights, refined pose, contact labels."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from humanx_description import robot
from humanx_description.objects import ObjectSpec
from humanx_training import rotation
from humanx_training.clip import InteractionClip, Phase, shape_of
from humanx_training.xgen.contact_path import (
    Interval,
    arrival_velocity,
    contact_bodies,
    end_velocity,
    hold_path,
    keep_clear,
    match_velocity,
    settle,
    shift_and_scale,
    strike_path,
)
from humanx_training.xgen.flight import BodyState, Path, World, arrive, launch_velocity
from humanx_training.xgen.force_closure import CLOSING, Refined, Refiner, refine
from humanx_training.xgen.motion_edit import arms_held, at_origin, padded
from humanx_training.xgen.plan import ClipPlan, Infeasible
from humanx_training.xgen.robot_motion import RobotMotion
from humanx_training.xgen.stage import Stage
from humanx_training.xgen.surface import Surface

MAX_ARRIVAL_ERROR = 0.005  # m
MAX_PENETRATION = 0.005  # m
MAX_GAP = 0.01  # m, between a body that should hold the object and its surface
_LABELLED = (
    'left_wrist_yaw_link', 'right_wrist_yaw_link', 'left_elbow_link', 'right_elbow_link', 'left_ankle_roll_link',
    'right_ankle_roll_link', 'left_knee_link', 'right_knee_link', 'torso_link',
)  # fmt: skip


@dataclass
class Synthesis:
    """A clip with the measures of how it was made (m, m/s; NaN where a step was not needed)."""

    clip: InteractionClip
    motion: RobotMotion  # before refinement, on the clip's frames
    refined: Refined | None
    arrival_error: float
    velocity_change: float  # m/s asked of the contact path at the throw


def synthesise(
    motion: RobotMotion, plan: ClipPlan, tools: tuple[ObjectSpec, ...] = (), stage: Stage | None = None
) -> Synthesis:
    """Make one clip; ``motion`` at the clip's frame rate. Raises :class:`Infeasible` with the reason.

    Steps: pose of the object in each contact phase relative to its anchor; lead-in long enough for the arrival; flights
    before, between and after; contact paths joined to the flights' velocities; arms refined under force closure;
    labels.
    """
    stage = stage or Stage(tools)
    surface = Surface.of(plan.spec)
    world = World(plan.spec)
    motion = arms_held(
        at_origin(motion),
        before=plan.contacts[0].from_stance,
        after=plan.contacts[-1].kind == 'hold' and plan.contacts[-1].end is None,
    )
    fps = motion.fps
    intervals = _intervals(stage, motion, surface, plan)
    first, last = intervals[0], intervals[-1]
    lead, tail = _padding(plan, first, last, motion)
    if lead or tail:
        motion = padded(motion, lead, tail)
        for interval in intervals:
            interval.start, interval.end = interval.start + lead, interval.end + lead
        if last.spec.kind == 'hold' and plan.release.kind == 'keep' and tail:
            last.end = motion.num_frames
            last.pos = np.pad(last.pos, ((0, tail), (0, 0)), mode='edge')
            last.quat = np.pad(last.quat, ((0, tail), (0, 0)), mode='edge')
    frames = motion.num_frames
    qpos = motion.qpos()
    pos, quat = np.full((frames, 3), np.nan), np.full((frames, 4), np.nan)
    phases: list[Phase] = []

    error = _arrive_first(plan, stage, world, surface, first, fps, qpos, pos, quat, phases)
    for before, after in zip(intervals, intervals[1:]):
        if after.start > before.end:
            error = max(error, _between(world, before, after, fps, pos, quat, phases))
    change = _leave_last(plan, world, surface, last, fps, qpos, pos, quat, phases)
    for interval in intervals:
        if interval.spec.kind == 'hold':
            keep_clear(stage, surface, interval, qpos)
        pos[interval.frames], quat[interval.frames] = interval.pos, interval.quat
        phases.append(Phase('contact', interval.start, interval.end, interval.spec.anchor))
    phases.sort(key=lambda p: p.start)
    if error > MAX_ARRIVAL_ERROR:
        raise Infeasible(f'the object arrives {error * 1000:.0f} mm beside the contact; expected below 5 mm')

    refined = _refine(stage, surface, qpos, pos, quat, intervals, fps)
    joint_pos = motion.joint_pos if refined is None else refined.joint_pos
    full = np.concatenate([qpos[:, :7], joint_pos], axis=1)
    bodies = _LABELLED + tuple(t for t in stage.tools)
    labels = stage.contact_graph(full, surface, pos, quat, bodies)
    clip = InteractionClip(
        fps=fps,
        root_pos=motion.root_pos,
        root_quat=rotation.continuous(motion.root_quat),
        joint_pos=joint_pos,
        object_name=plan.spec.name,
        object_shape=shape_of(plan.spec),
        object_pos=pos,
        object_quat=rotation.continuous(quat),
        contact=labels,
        contact_bodies=bodies,
        phases=tuple(phases),
        provenance={},
    )
    return Synthesis(clip, motion, refined, error, change)


def _intervals(stage: Stage, motion: RobotMotion, surface: Surface, plan: ClipPlan) -> list[Interval]:
    fps, qpos = motion.fps, motion.qpos()
    out: list[Interval] = []
    for number, spec in enumerate(plan.contacts):
        start = motion.clip_start + round(spec.start * fps)
        end = motion.num_frames if spec.end is None else motion.clip_start + round(spec.end * fps)
        if spec.from_stance:
            start = 0
        if end > motion.num_frames or start >= motion.num_frames:
            raise Infeasible(
                f'contact {number} lasts to {spec.end} s; expected it inside the motion of {motion.duration:.2f} s'
            )
        if spec.kind == 'strike':
            rolling = plan.arrival.kind == 'roll' or (plan.arrival.kind == 'rest' and plan.arrival.on_floor)
            interval = strike_path(
                stage, qpos, fps, surface, spec, slice(start, end), plan, rolling=rolling
            )
        else:
            handed = out[-1] if out and out[-1].end == start else None
            interval = hold_path(stage, qpos, surface, spec, start, end, handed)
            if handed is not None:
                out.append(interval)
                continue
            on_floor = number == 0 and plan.arrival.kind == 'rest' and plan.arrival.on_floor
            shift_and_scale(interval, plan, qpos[0], fps, keep_start=on_floor)
            if on_floor:
                interval.quat = _level(interval, 0, fps)
                low = surface.lowest(rotation.to_matrix(interval.quat[0]))
                settle(interval, 0, np.array([*interval.pos[0, :2], low]), fps)
        out.append(interval)
    last = out[-1]
    if plan.release.kind == 'place' and plan.release.on_floor:
        last.quat = _level(last, -1, fps)
        low = surface.lowest(rotation.to_matrix(last.quat[-1]))
        settle(last, -1, np.array([*last.pos[-1, :2], low]), fps)
    return out


def _level(interval: Interval, edge: int, fps: float) -> np.ndarray:
    """Return the orientations with the one at ``edge`` made level (yaw kept), fading over half a second."""
    q = interval.quat
    flat = rotation.from_yaw(rotation.yaw(q[edge]))
    fix = rotation.log(rotation.multiply(flat, rotation.conjugate(q[edge])))
    count = len(q)
    distance = np.arange(count) if edge == 0 else np.arange(count)[::-1]
    weight = np.clip(1.0 - distance / (0.5 * fps), 0.0, 1.0)
    return rotation.multiply(rotation.exp(weight[:, None] * fix), q)


def _padding(plan: ClipPlan, first: Interval, last: Interval, motion: RobotMotion) -> tuple[int, int]:
    fps = motion.fps
    lead = 0
    if plan.arrival.kind in ('flight', 'roll'):
        lead = max(0, round((plan.arrival.duration + 0.1) * fps) - first.start)
    tail = 0
    if plan.release.kind != 'keep':
        tail = max(0, round(plan.release.duration * fps) - (motion.num_frames - last.end))
    return lead, tail


def _arrive_first(
    plan: ClipPlan, stage: Stage, world: World, surface: Surface, first: Interval, fps: float, qpos: np.ndarray,
    pos: np.ndarray, quat: np.ndarray, phases: list[Phase],
) -> float:  # fmt: skip
    arrival, start = plan.arrival, first.start
    if arrival.kind == 'rest' or start == 0:
        pos[:start], quat[:start] = first.pos[0], first.quat[0]
        if start:
            phases.append(Phase('rest', 0, start))
        return 0.0
    towards = first.direction if first.spec.kind == 'strike' else _facing(stage, qpos[start], first.spec.anchor)
    velocity = arrival_velocity(arrival, towards)
    spin = np.cross([0.0, 0.0, 1.0], velocity) / surface.radius if arrival.kind == 'roll' else np.zeros(3)
    count = min(round(arrival.duration * fps), start) + 1
    orientation = first.quat[0]
    end = BodyState(first.pos[0], orientation, velocity, spin)
    result = arrive(world, end, count, fps, rolling=arrival.kind == 'roll')
    if result.path.pos[:, 2].min() < 0.3 * surface.lowest(np.eye(3)):
        raise Infeasible('the object would come out of the floor')
    begin = start - (count - 1)
    pos[begin:start], quat[begin:start] = result.path.pos[:-1], result.path.quat[:-1]
    # The orientation of a round object is free: carry it over, so that nothing turns at a stroke.
    carry = rotation.multiply(result.path.quat[-1], rotation.conjugate(first.quat[0]))
    first.quat = rotation.multiply(carry, first.quat) if plan.spec.shape in ('sphere', 'shuttlecock') else first.quat
    pos[:begin], quat[:begin] = result.path.pos[0], result.path.quat[0]
    if begin:
        phases.append(Phase('rest', 0, begin))
    phases.append(Phase('flight', begin, start))
    if first.spec.kind == 'hold':
        match_velocity(first, 0, _part(result.path.vel[-1]), fps, plan.join)
    return result.pos_error


def _facing(stage: Stage, qpos: np.ndarray, anchor: str) -> np.ndarray:
    """Return the horizontal direction (3,) that a catch faces: across the palms' line, so that the object comes in
    between the hands; for one hand, the pelvis' heading."""
    heading = float(rotation.yaw(qpos[3:7]))
    if anchor == 'palms':
        across = rotation.rotate(stage.anchor(qpos[None], 'palms')[1][0], np.array([0.0, 1.0, 0.0]))
        heading = float(np.arctan2(-across[0], across[1]))
    return np.array([np.cos(heading), np.sin(heading), 0.0])


def _part(velocity: np.ndarray) -> np.ndarray:
    """Return the velocity that the hands take over from a caught object: the rest is lost in the impact."""
    return 0.5 * velocity


def _between(
    world: World, before: Interval, after: Interval, fps: float, pos: np.ndarray, quat: np.ndarray, phases: list[Phase]
) -> float:
    start = BodyState(before.pos[-1], before.quat[-1], np.zeros(3), np.zeros(3))
    count = after.start - before.end + 2
    guess = rotation.linear_rate(before.pos, fps)[-1] if len(before.pos) > 2 else np.zeros(3)
    duration = (count - 1) / fps
    straight = (after.pos[0] - before.pos[-1]) / duration
    # A path downward from the hand bounces; else it is a throw.
    bounce = guess[2] < -0.3
    guess = np.array([*straight[:2], min(guess[2], -2.0) if bounce else straight[2] + 0.5 * 9.81 * duration])
    end = BodyState(after.pos[0], start.quat, np.zeros(3), np.zeros(3))
    result = arrive(world, end, count, fps, start_pos=start.pos, guess=guess)
    inner = slice(before.end, after.start)
    pos[inner], quat[inner] = result.path.pos[1:-1], result.path.quat[1:-1]
    phases.append(Phase('flight', before.end, after.start))
    match_velocity(before, -1, result.path.vel[0], fps, 0.15)
    match_velocity(after, 0, _part(result.path.vel[-1]), fps, 0.15)
    carry = rotation.multiply(result.path.quat[-1], rotation.conjugate(after.quat[0]))
    after.quat = rotation.multiply(carry, after.quat)
    return result.pos_error


def _leave_last(
    plan: ClipPlan, world: World, surface: Surface, last: Interval, fps: float, qpos: np.ndarray, pos: np.ndarray,
    quat: np.ndarray, phases: list[Phase],
) -> float:  # fmt: skip
    release, end = plan.release, last.end
    frames = len(pos)
    if end >= frames or release.kind == 'keep':
        if end < frames:
            raise Infeasible('the last contact ends before the clip but release is keep; expected no end')
        return 0.0
    if release.kind == 'place':
        pos[end:], quat[end:] = last.pos[-1], last.quat[-1]
        phases.append(Phase('rest', end, frames))
        return 0.0
    point = last.pos[-1]
    own = end_velocity(last.pos, fps)
    velocity = _release_velocity(plan, world, last, own, qpos[end - 1], fps)
    change = 0.0
    if last.spec.kind == 'hold':
        change = match_velocity(last, -1, velocity, fps, max(plan.join, 0.2))
        if change > release.max_change:
            raise Infeasible(f'the throw asks the arms for {change:.1f} m/s more than the motion has')
    spin = rotation.rotate(last.quat[-1], rotation.angular_velocity_body(last.quat, fps)[-1])
    if last.spec.kind == 'strike' or plan.spec.shape == 'sphere':
        spin = np.cross([0.0, 0.0, 1.0], velocity) / surface.radius if point[2] < 1.2 * surface.radius else 0 * spin
    path: Path = world.forward(BodyState(point, last.quat[-1], velocity, spin), frames - end + 1, fps)
    pos[end:], quat[end:] = path.pos[1:], path.quat[1:]
    phases.append(Phase('flight', end, frames))
    return change


def _release_velocity(
    plan: ClipPlan, world: World, last: Interval, own: np.ndarray, robot_then: np.ndarray, fps: float
) -> np.ndarray:
    release = plan.release
    if release.kind == 'anchor':
        return own * plan.release_factor * (release.speed or 1.0)
    if release.kind == 'strike':
        # A light object leaves a heavy limb at v + e (v - v_in); the limb loses a little.
        incoming = -plan.arrival.speed if plan.arrival.kind != 'rest' else 0.0
        impact = 0.9 * (last.anchor_speed + plan.spec.body_restitution * (last.anchor_speed - incoming))
        asked = plan.release_factor * (impact if release.speed is None else release.speed)
        if asked > 1.3 * impact:
            raise Infeasible(f'the strike gives {impact:.1f} m/s, {asked:.1f} m/s are asked')
        direction = rotation.rotate(rotation.from_yaw(np.deg2rad(release.azimuth_deg)), last.direction)
        rise = np.deg2rad(release.rise_deg) + np.arcsin(np.clip(direction[2], -1, 1))
        flat = direction[:2] / max(float(np.linalg.norm(direction[:2])), 1e-6)
        return asked * np.array([*(np.cos(rise) * flat), np.sin(rise)])
    turn = rotation.from_yaw(rotation.yaw(robot_then[3:7]))
    if release.kind == 'velocity':
        return plan.release_factor * rotation.rotate(turn, np.array(release.velocity))
    point = last.pos[-1]
    base = np.array([*(point[:2] if release.from_release else robot_then[:2]), 0.0])
    target = base + rotation.rotate(turn, np.array(release.target))
    try:
        speed = release.speed and release.speed * plan.release_factor
        velocity = launch_velocity(point, target, apex=release.apex, speed=speed)
    except ValueError as error:
        raise Infeasible(str(error)) from None
    if plan.spec.drag_length > 0:
        flight = float(np.linalg.norm((target - point)[:2]) / max(float(np.linalg.norm(velocity[:2])), 1e-6))
        end = BodyState(target, last.quat[-1], velocity, np.zeros(3))
        velocity = arrive(world, end, round(flight * fps) + 1, fps, start_pos=point, guess=velocity).path.vel[0]
    return velocity


def _refine(
    stage: Stage, surface: Surface, qpos: np.ndarray, pos: np.ndarray, quat: np.ndarray, intervals: list[Interval],
    fps: float,
) -> Refined | None:  # fmt: skip
    contacts: list[tuple[int, ...]] = [() for _ in range(len(qpos))]
    limbs: list[slice] = []
    for interval in intervals:
        if interval.spec.kind != 'hold':
            continue
        names = contact_bodies(interval.spec)
        # Both arms: the one that does not hold the object must keep out of it.
        limbs += [robot.LEFT_ARM, robot.RIGHT_ARM] * any('wrist' in n or 'elbow' in n for n in names)
        limbs += [robot.WAIST] * interval.spec.move_waist
        ids = tuple(stage.model.body(n).id for n in names)
        for t in range(interval.start, interval.end):
            contacts[t] = ids
    if not limbs:
        return None
    unique = tuple(dict.fromkeys((s.start, s.stop) for s in limbs))
    refiner = Refiner(stage, surface, tuple(slice(*u) for u in unique))
    refined = refine(refiner, qpos, pos, quat, contacts, blend=round(0.5 * fps))
    # Hands close around a caught object and open for a throw over a few frames.
    firm = np.isfinite(refined.distance_after)
    for interval in intervals:
        for edge in (interval.start, interval.end):
            if 0 < edge < len(qpos):
                firm[max(0, edge - CLOSING) : edge + CLOSING] = False
    gap = refined.distance_after[firm].max(initial=0.0)
    deep = refined.penetration_after.max()
    if gap > MAX_GAP:
        raise Infeasible(f'the hands stay {gap * 1000:.0f} mm off the object; it is out of reach')
    if deep > MAX_PENETRATION:
        raise Infeasible(f'the arms enter the object by {deep * 1000:.0f} mm')
    return dataclasses.replace(refined)
