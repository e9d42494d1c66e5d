"""The object's path while it is in contact: fixed to its anchor, then shifted, scaled and joined to the flights.

Positions in m, world frame, ``T`` frames of the whole clip; only the frames of the interval are meaningful.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from humanx_training import rotation
from humanx_training.xgen.plan import ClipPlan, Infeasible
from humanx_training.xgen.recipe import Arrival, ContactSpec
from humanx_training.xgen.stage import Stage
from humanx_training.xgen.surface import Surface


@dataclass
class Interval:
    """A contact phase in frames ``start <= t < end`` with the object's path over it."""

    spec: ContactSpec
    start: int
    end: int
    pos: np.ndarray  # (end - start, 3)
    quat: np.ndarray  # (end - start, 4)
    direction: np.ndarray  # (3,) unit: along a strike (zero for a hold)
    anchor_speed: float  # m/s of the contact point along a strike

    @property
    def frames(self) -> slice:
        return slice(self.start, self.end)


def strike_frame(anchor_pos: np.ndarray, fps: float, window: slice) -> int:
    """Return the frame of the anchor's highest speed inside the window."""
    speed = np.linalg.norm(rotation.linear_rate(anchor_pos, fps), axis=1)
    start = window.start or 0
    return start + int(speed[window].argmax())


def hold_path(
    stage: Stage,
    qpos: np.ndarray,
    surface: Surface,
    spec: ContactSpec,
    start: int,
    end: int,
    before: Interval | None = None,
) -> Interval:
    """Return the interval of a hold: the object keeps one pose relative to the anchor.

    ``before`` is a hold that ends where this one starts: the object is handed over, at the place where it is then.
    """
    pos, quat = stage.anchor(qpos[start:end], spec.anchor)
    if spec.upright:
        # The heading across the palms' line: forearms may point straight down, that line never does.
        across = rotation.rotate(quat, np.broadcast_to([0.0, 1.0, 0.0], (len(quat), 3)))
        quat = rotation.from_yaw(np.arctan2(-across[:, 0], across[:, 1]))
    if before is not None:
        speed = rotation.linear_rate(before.pos, 1.0)[-1] if len(before.pos) > 1 else np.zeros(3)
        offset = rotation.rotate_inverse(quat[0], before.pos[-1] + speed - pos[0])
        turn = rotation.multiply(rotation.conjugate(quat[0]), before.quat[-1])
    else:
        touching = spec.offset is None
        offset = _touching_offset(stage, qpos[start], surface, spec, quat[0]) if touching else np.array(spec.offset)
        turn = np.array(spec.turn)
    pos = pos + rotation.rotate(quat, offset)
    turned = rotation.multiply(quat, turn)
    return Interval(spec, start, end, pos, rotation.continuous(turned), np.zeros(3), 0.0)


def _touching_offset(
    stage: Stage, qpos: np.ndarray, surface: Surface, spec: ContactSpec, frame: np.ndarray
) -> np.ndarray:
    """Return where the object just touches a single hand (nothing to do between two palms), in the frame (4,)."""
    if spec.anchor == 'palms':
        return np.zeros(3)
    pos, quat = stage.anchor(qpos[None], spec.anchor)
    if spec.side == 'palm':
        # The left palm looks to -y of its frame, the right one to +y.
        direction = rotation.rotate(quat[0], np.array([0.0, 1.0 if spec.anchor.startswith('right') else -1.0, 0.0]))
    else:
        direction = np.array([0.0, 0.0, 1.0 if spec.side == 'above' else -1.0])
    centre = _contact_point(stage, qpos[None], spec, pos)[0]
    reach = touch_distance(stage, qpos, surface, centre, direction, spec)
    return rotation.rotate_inverse(frame, centre + reach * direction - pos[0])


def touch_distance(
    stage: Stage,
    qpos: np.ndarray,
    surface: Surface,
    origin: np.ndarray,
    direction: np.ndarray,
    spec: ContactSpec,
    quat: np.ndarray | None = None,
) -> float:
    """Return how far (m) along ``direction`` from ``origin`` the object's centre must be to just touch the bodies."""
    bodies = contact_bodies(spec)
    ids = [stage.model.body(b).id for b in bodies]
    mask = np.isin(stage.spheres.owner, ids)
    centres, radii = stage.sphere_centres(qpos)[mask], stage.spheres.radius[mask]
    turn = np.array([1.0, 0, 0, 0]) if quat is None else quat

    def gap(distance: float) -> float:
        local = rotation.rotate_inverse(turn, centres - (origin + distance * direction))
        return float((surface(local)[0] - radii).min())

    low, high = 0.0, 1.0
    if gap(high) < 0:
        raise Infeasible('the object cannot be moved clear of the body that strikes it')
    for step in np.linspace(1.0, 0.0, 101):
        if gap(step) < 0:
            low, high = step, step + 0.01
            break
    else:
        raise Infeasible(f'the object passes {gap(0.0) * 100:.0f} cm from {bodies[0]} at the strike')
    for _ in range(20):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if gap(middle) < 0 else (low, middle)
    return high


def contact_bodies(spec: ContactSpec) -> tuple[str, ...]:
    """Return the bodies that touch the object in a contact phase."""
    if spec.bodies:
        return spec.bodies
    hands = {'left_palm': ('left_wrist_yaw_link',), 'right_palm': ('right_wrist_yaw_link',)}
    if spec.anchor == 'palms':
        return ('left_wrist_yaw_link', 'right_wrist_yaw_link')
    return hands.get(spec.anchor, (spec.anchor,))


def strike_path(
    stage: Stage,
    qpos: np.ndarray,
    fps: float,
    surface: Surface,
    spec: ContactSpec,
    window: slice,
    plan: ClipPlan,
    *,
    rolling: bool,
) -> Interval:
    """Return the interval of a strike: from the anchor's highest speed on, the object sticks to it for a moment."""
    pos, quat = stage.anchor(qpos, spec.anchor)
    at = strike_frame(_contact_point(stage, qpos, spec, pos), fps, window)
    velocity = rotation.linear_rate(_contact_point(stage, qpos, spec, pos), fps)[at]
    if rolling:
        velocity = velocity * np.array([1.0, 1.0, 0.0])
    speed = float(np.linalg.norm(velocity))
    if speed < 0.3:
        raise Infeasible(f'{spec.anchor} moves at only {speed:.2f} m/s where it should strike')
    direction = velocity / speed
    origin = _contact_point(stage, qpos[at : at + 1], spec, pos[at : at + 1])[0] + _world(plan.offset, qpos[0])
    level = surface.lowest(np.eye(3))
    if rolling:
        origin[2] = level
    facing = np.array([1.0, 0.0, 0.0, 0.0])
    if surface.spec.shape == 'shuttlecock':
        # It meets the racket with its cork, which leads in flight.
        flies = plan.arrival.kind == 'flight'
        leading = arrival_velocity(plan.arrival, direction) if flies else -direction
        facing = rotation.between(np.array([1.0, 0.0, 0.0]), leading)
    reach = touch_distance(stage, qpos[at], surface, origin, direction, spec, facing)
    centre = origin + reach * direction
    if centre[2] < level - 1e-6:
        raise Infeasible(f'the object would be {level - centre[2]:.2f} m inside the floor at the strike')
    count = max(2, round(spec.duration * fps) + 1)
    end = min(at + count, len(qpos))
    if rolling:
        # A ball on the floor is pushed along it, however the foot rises and turns.
        reaches = [touch_distance(stage, q, surface, origin, direction, spec, facing) for q in qpos[at:end]]
        path = origin + np.maximum.accumulate(reaches)[:, None] * direction
    else:
        relative = rotation.rotate_inverse(quat[at], centre - pos[at])
        path = pos[at:end] + rotation.rotate(quat[at:end], relative)
        path[:, 2] = np.maximum(path[:, 2], level)
    turned = rotation.multiply(rotation.multiply(quat[at:end], rotation.conjugate(quat[at])), facing)
    return Interval(spec, at, end, path, turned, direction, speed)


def arrival_velocity(arrival: Arrival, towards: np.ndarray) -> np.ndarray:
    """Return the velocity (3,) m/s with which an object arrives that comes from the direction ``towards`` (3,)."""
    azimuth = np.arctan2(towards[1], towards[0]) + np.deg2rad(arrival.azimuth_deg)
    fall = 0.0 if arrival.kind == 'roll' else np.deg2rad(arrival.fall_deg)
    level = np.array([np.cos(azimuth), np.sin(azimuth), 0.0])
    return -arrival.speed * (np.cos(fall) * level + np.array([0.0, 0.0, np.sin(fall)]))


def _contact_point(stage: Stage, qpos: np.ndarray, spec: ContactSpec, anchor_pos: np.ndarray) -> np.ndarray:
    """Return (T, 3): the middle of the striking body's spheres (the foot's middle, not the ankle)."""
    ids = [stage.model.body(b).id for b in contact_bodies(spec)]
    mask = np.isin(stage.spheres.owner, ids)
    if not mask.any():
        return anchor_pos
    return np.array([stage.sphere_centres(q)[mask].mean(axis=0) for q in qpos])


def _world(offset: tuple[float, float, float], first: np.ndarray) -> np.ndarray:
    return rotation.rotate(rotation.from_yaw(rotation.yaw(first[3:7])), np.array(offset))


def shift_and_scale(interval: Interval, plan: ClipPlan, first: np.ndarray, fps: float, *, keep_start: bool) -> None:
    """Scale a hold's path about its start and translate it (``keep_start``: fading in over half a second)."""
    shift = _world(plan.offset, first)
    fade = np.ones(len(interval.pos))
    if keep_start:
        fade = smooth_step(np.arange(len(interval.pos)) / (0.5 * fps))
    start = interval.pos[0].copy()
    interval.pos = start + plan.path_scale * (interval.pos - start) + fade[:, None] * shift


def settle(interval: Interval, edge: int, target: np.ndarray, fps: float, seconds: float = 0.5) -> None:
    """Bring the path's first (``edge`` 0) or last (-1) position to ``target``, fading over ``seconds``."""
    count = len(interval.pos)
    distance = np.arange(count) if edge == 0 else np.arange(count)[::-1]
    weight = 1.0 - smooth_step(distance / (seconds * fps))
    interval.pos = interval.pos + weight[:, None] * (target - interval.pos[edge])


def match_velocity(interval: Interval, edge: int, velocity: np.ndarray, fps: float, seconds: float) -> float:
    """Bend the path near an edge so that it has ``velocity`` (3,) there; return the change asked (m/s).

    The position at the edge stays. This is the joining by interpolation: a cubic that leaves the contact path with its
    own position and slope ``seconds`` away, so the hands give with a catch and follow through a throw.
    """
    count = min(len(interval.pos), max(3, round(seconds * fps) + 1))
    own = rotation.linear_rate(interval.pos, fps)[edge]
    change = velocity - own
    time = (count - 1) / fps
    s = np.arange(count) / (count - 1)
    bump = (s * (1 - s) ** 2 * time)[:, None] * change
    if edge == 0:
        interval.pos[:count] += bump
    else:
        interval.pos[-count:] -= bump[::-1]
    return float(np.linalg.norm(change))


def end_velocity(pos: np.ndarray, fps: float, seconds: float = 0.12) -> np.ndarray:
    """Return the velocity (3,) m/s at the end of a path (T, 3): a parabola fitted to its last ``seconds``.

    The last two frames alone would carry the noise of the capture; a straight line would lag behind a throw.
    """
    count = min(len(pos), max(3, round(seconds * fps) + 1))
    if count < 3:
        return rotation.linear_rate(pos, fps)[-1] if len(pos) > 1 else np.zeros(3)
    time = np.arange(1 - count, 1) / fps
    return np.polynomial.polynomial.polyfit(time, pos[-count:], 2)[1]


def keep_clear(stage: Stage, surface: Surface, interval: Interval, qpos: np.ndarray, margin: float = 0.005) -> None:
    """Move a held object out of the bodies that do not hold it (chest, thighs): along the surface normal, smoothly."""
    arms = np.array([('shoulder' in n or 'elbow' in n or 'wrist' in n) for n in stage.body_names])
    holders = {stage.model.body(b).id for b in contact_bodies(interval.spec)}
    spheres = stage.spheres
    others = np.flatnonzero(~arms[spheres.body] & ~np.isin(spheres.owner, list(holders)))
    centres = stage.sphere_paths(qpos[interval.frames])[:, others]
    matrices = rotation.to_matrix(interval.quat)
    every = np.arange(len(centres))
    for _ in range(10):
        local = (centres - interval.pos[:, None]) @ matrices
        distance, normal = surface(local.reshape(-1, 3))
        gap = distance.reshape(local.shape[:2]) - spheres.radius[others]
        worst = gap.argmin(axis=1)
        lacking = np.maximum(margin - gap[every, worst], 0.0)
        if not lacking.any():
            return
        away = matrices @ normal.reshape(local.shape)[every, worst][:, :, None]
        interval.pos = interval.pos + spread(-lacking[:, None] * away[..., 0])


def spread(extra: np.ndarray, reach: int = 12) -> np.ndarray:
    """Return changes (T, N) that reach those given and rise and fall smoothly over ``reach`` frames beside them."""
    out = extra.copy()
    padded = np.concatenate([np.zeros((reach, extra.shape[1])), extra, np.zeros((reach, extra.shape[1]))])
    for distance in range(1, reach):
        weight = 0.5 * (1 + np.cos(np.pi * distance / reach))
        for offset in (distance, -distance):
            moved = weight * padded[reach + offset : reach + offset + len(extra)]
            out = np.where(np.abs(moved) > np.abs(out), moved, out)
    return out


def smooth_step(s: np.ndarray) -> np.ndarray:
    """Return the quintic from 0 to 1 with zero slope and curvature at both ends."""
    s = np.clip(s, 0.0, 1.0)
    return s * s * s * (10 - 15 * s + 6 * s * s)
